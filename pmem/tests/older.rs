//! A log whose index has no room for all of it finds in footers what another finds in its index: over recycling,
//! retention, deleted streams, restarts and accepted losses.

mod common;

use common::older::World;

#[test]
fn it_finds_in_footers_what_others_find_in_the_index() {
    let seeds = std::env::var("MSTREAM_SEEDS").ok().and_then(|text| text.parse().ok());
    let (mut most, mut recycled, mut refused) = (0, 0, 0);
    let (mut lost, mut holes) = (0, 0);
    for seed in 1..=seeds.unwrap_or(12) {
        let mut world = World::new(seed);
        world.live().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        most = most.max(world.most);
        recycled += u64::from(world.recycled);
        refused += world.refused;
        (lost, holes) = (lost + world.lost, holes + world.holes);
    }
    assert!(most > 6 && recycled > 3 && refused > 0, "{most} {recycled} {refused}");
    assert!(lost > 3 && holes > 3, "{lost} {holes}");
}
