use std::collections::VecDeque;

use super::*;

/// The index against a plain queue, over pushes, pops and look-ups that a simple generator picks.
#[test]
fn it_agrees_with_a_plain_queue() {
    for (seed, pop_every) in [(1u64, 2u64), (2, 3), (3, 50), (4, 1)] {
        let mut index = Index::new(ArenaSize::new(1, 50_000, 1));
        let mut entries = Entries::EMPTY;
        let mut model: VecDeque<(u64, u32)> = VecDeque::new();
        let mut state = seed;
        let mut offset = 0;
        for step in 0..120_000u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let random = state >> 33;
            // Phases of growth and of shrinking, so that the queue also runs empty.
            let growing = (step / 20_000) % 2 == 0;
            if growing == (random % 8 < 6) && model.len() < 40_000 {
                assert!(index.has_room());
                index.push(&mut entries, offset, step as u32);
                model.push_back((offset, step as u32));
                // Now and then further than a leaf can say.
                offset += if random % 97 == 0 { 1 << (20 + random % 9) } else { 1 + random % 17 };
            } else if random % pop_every == 0 {
                assert_eq!(index.front(&entries), model.front().copied());
                index.pop_front(&mut entries);
                model.pop_front();
            }
            if let (Some(first), 0) = (model.front(), step % 16) {
                let wanted = first.0 + random % (offset - first.0 + 5);
                let at = model.partition_point(|(start, _)| *start <= wanted) - 1;
                let found =
                    index.find(&entries, wanted, random % 64).map(|n| index.get(&entries, n));
                assert_eq!(found, model.get(at).copied());
                check_batch(&index, &entries, &model, random);
            }
        }
        while !entries.is_empty() {
            index.pop_front(&mut entries);
        }
        assert_eq!(index.arena.nodes_out(), (0, 0), "nodes were kept");
    }
}
/// However long a stream lives, what it costs goes by what it holds.
#[test]
fn few_entries_take_few_nodes() {
    let mut index = Index::new(ArenaSize::new(1, 10_000, 1));
    let mut entries = Entries::EMPTY;
    let (mut most_leaves, mut most_inner) = (0, 0);
    for number in 0..2_000_000u64 {
        index.push(&mut entries, number, number as u32);
        if entries.tail - entries.head > 20 {
            index.pop_front(&mut entries);
        }
        let (leaves, inner) = index.arena.nodes_out();
        (most_leaves, most_inner) = (most_leaves.max(leaves), most_inner.max(inner));
        assert_eq!(
            index.front(&entries),
            Some((number.saturating_sub(19), number.saturating_sub(19) as u32))
        );
    }
    assert!(most_leaves <= 4 && most_inner <= 5, "{most_leaves} leaves, {most_inner} inner");
}

#[test]
fn an_arena_that_is_used_up_says_so_and_gets_room_again() {
    let mut index = Index::new(ArenaSize::new(1, 100, 40));
    let mut streams = vec![Entries::EMPTY; 200];
    let mut filled = 0;
    while index.has_room() {
        index.push(&mut streams[filled], 0, 0);
        filled += 1;
    }
    assert!(filled == 94 && index.is_short());
    index.pop_front(&mut streams[0]);
    assert!(index.has_room());
    index.push(&mut streams[0], 0, 0);
    index.make_room();
    assert!(index.has_room());
}

/// The batched look-up finds what the single one finds, of offsets before the first and behind the last too.
fn check_batch(index: &Index, entries: &Entries, model: &VecDeque<(u64, u32)>, random: u64) {
    let (first, last) = (model[0].0, model[model.len() - 1].0);
    let spread = last - first + 40;
    let wanted: Vec<(Entries, u64)> = (0..BATCH as u64)
        .map(|n| (*entries, (first + n * spread / 16 + random % 7).saturating_sub(20)))
        .chain([(Entries::EMPTY, first)])
        .skip((random % 3) as usize)
        .take(BATCH)
        .collect();
    let mut found = [Some(7); BATCH];
    index.find_batch(&wanted, &mut found);
    for ((entries, offset), found) in wanted.iter().zip(found) {
        let single = index.find(entries, *offset, u64::MAX);
        assert_eq!(found, single.map(|number| index.get(entries, number).1));
        let before = model.partition_point(|(start, _)| start <= offset).checked_sub(1);
        let expected = before.filter(|_| !entries.is_empty()).map(|place| model[place].1);
        assert_eq!(found, expected, "offset {offset}");
    }
}
