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

/// Copies, and merges what there is, over and over; reports what was done.
fn work(world: &mut World, steps: u64) -> Result<(), String> {
    (0..steps).try_for_each(|_| world.copy_and_merge())
}

/// The same work, cut off before each of its operations on the disk, with everything that was not synced gone, all of it
/// there, and some of it.
#[test]
fn each_operation_may_be_the_last() {
    const STEPS: u64 = 10;
    let mut world = World::of(5);
    work(&mut world, STEPS).expect("nothing is wrong");
    let operations = world.operations();
    assert!(operations > 50 && world.merges > 0, "{operations} operations");
    for last in 1..=operations {
        for kind in 0..5 {
            let mut world = World::of(5);
            world.stop_at(last);
            let done = work(&mut world, STEPS);
            assert!(done.is_err(), "operation {last} is among them");
            let after = world.start_after(kind).and_then(|()| world.check());
            let after = after.and_then(|()| work(&mut world, 2)).and_then(|()| world.check());
            after.unwrap_or_else(|what| panic!("cut at operation {last}, image {kind}: {what}"));
        }
    }
}
