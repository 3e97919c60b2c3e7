//! Switches for bugs that tests plant in the product's code, to see that they are found.

/// Makes a crate's list of bugs: an enum `Bug` with the constant `ALL`, the question `planted(Bug) -> bool` for the places
/// where they stand, and `plant(Option<Bug>)`, which plants one for the calling thread.
///
/// The crate declares a feature `planted`. Without it, and in all release builds, nothing can be planted and the question
/// is the constant false.
#[macro_export]
macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// All of them.
            #[cfg(feature = "planted")]
            pub const ALL: &[Bug] = &[$(Bug::$name,)*];
        }

        #[cfg(all(feature = "planted", debug_assertions))]
        mod switch {
            use std::cell::Cell;

            use super::Bug;

            thread_local! {
                static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
            }

            /// Plants a bug in what this thread does from now on, or none.
            pub fn plant(bug: Option<Bug>) {
                PLANTED.set(bug);
            }

            #[inline]
            pub(crate) fn planted(bug: Bug) -> bool {
                PLANTED.get() == Some(bug)
            }
        }

        #[cfg(not(all(feature = "planted", debug_assertions)))]
        mod switch {
            #[inline(always)]
            pub(crate) const fn planted(_: super::Bug) -> bool {
                false
            }
        }

        #[cfg(all(feature = "planted", debug_assertions))]
        pub use switch::plant;
        pub(crate) use switch::planted;
    };
}
