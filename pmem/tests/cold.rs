//! Cold segments against their model.

mod common;

use common::cold::World;
use common::seeds;

#[test]
fn what_was_copied_is_there_and_nothing_else() {
    let (mut cuts, mut merges) = (0, 0);
    for seed in seeds(1..=60) {
        let mut world = World::of(seed);
        if let Err(what) = world.play(120) {
            panic!("seed {seed}: {what}");
        }
        cuts += world.cuts;
        merges += world.merges;
    }
    assert!(cuts > 100 && merges > 100, "{cuts} power cuts, {merges} merges");
}
