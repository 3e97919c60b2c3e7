//! The rules.

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A rule of a session.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule { $($(#[$doc])* $name,)* }

        impl Rule {
            /// All of them, in order of their numbers.
            pub const ALL: [Rule; [$($text),*].len()] = [$(Rule::$name),*];

            /// What is wrong when it is broken.
            pub fn text(self) -> &'static str {
                match self { $(Rule::$name => $text,)* }
            }
        }
    };
}

rules! {
    /// The first message is the system event `O`.
    StartMissing = "the session does not begin with the start of messages";
    /// The last message is the system event `C`.
    EndMissing = "the session ends without the end of messages";
    /// Nothing follows the system event `C`.
    BehindEnd = "there is a message behind the end of messages";
    /// System events come in the order `O` `S` `Q` `M` `E` `C`, each once.
    EventOrder = "the system event is not the next one of the day";
    /// Times never go back.
    TimeBackwards = "the time is before that of the message before";
    /// Times are within the day.
    TimeOfDay = "the time is not within the day";
    /// A stock's number is in the directory before it is used.
    UnknownStock = "the stock's number is not in the directory";
    /// A number keeps its symbol, and messages with both agree with the directory.
    WrongSymbol = "the symbol is not that of the stock's number";
    /// Orders and trades fall between the system events `S` and `E`.
    OutsideHours = "the message is outside system hours";
    /// Executions and trades happen in stocks that are in trading state `T`.
    NotTrading = "the stock is not trading";
    /// A new order's number is not that of a live one.
    ReferenceInUse = "the order number belongs to a live order";
    /// Messages about an order are about a live one.
    UnknownOrder = "the order is not live";
    /// They carry the order's stock number.
    WrongStock = "the order is in another stock";
    /// Executions and cancels take no more shares than are left.
    TooManyShares = "the order has fewer shares left";
    /// Shares are never zero.
    NoShares = "zero shares";
    /// A side is `B` or `S`.
    Side = "the side is neither buy nor sell";
    /// A printable flag is `Y` or `N`.
    Printable = "the printable flag is neither yes nor no";
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}
