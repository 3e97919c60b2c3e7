//! Bugs are planted in the code of shard, client and log, and taken away again. That each is caught, `mstream-sim --planted
//! all` shows. Debug builds only: a release build holds no switch to plant them with.
#![cfg(all(feature = "planted", debug_assertions))]

use mstream_sim::planted::{Bug, hunt};
use mstream_sim::{Honest, Run, run};

#[test]
fn a_bug_is_planted_only_while_it_is_hunted() {
    let bug = Bug::all()[0];
    assert!(hunt(bug, Run::new(1), 50).is_some());
    assert!(run(Run::new(1), Honest).is_ok(), "nothing is planted any more");
    assert_eq!(Bug::named(&bug.to_string().to_lowercase()), Some(bug));
    assert_eq!(Bug::named("none of them"), None);
}
