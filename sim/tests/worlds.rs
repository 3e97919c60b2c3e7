//! Many worlds, in which no promise is broken.

use std::sync::Mutex;

use mstream_sim::{
    Campaign, Honest, Injected, Kind, Mix, Outcome, Run, Seeds, play_seeds, run, shrink,
};

fn play(wanted: Run) -> Outcome {
    match run(wanted, Honest) {
        Ok(outcome) => outcome,
        Err(failure) => panic!("{failure}"),
    }
}

fn traced(seed: u64, steps: u64) -> Outcome {
    play(Run { steps, trace: true, ..Run::new(seed) })
}

#[test]
fn three_hundred_worlds_with_all_faults() {
    let first = Run { steps: 500, ..Run::new(1) };
    let campaign = Campaign { first, seeds: Seeds::Count(300), jobs: 2 };
    let played = Mutex::new(Vec::new());
    let (totals, failure) =
        play_seeds(campaign, |seed, _| played.lock().expect("sound").push(seed));
    assert!(failure.is_none(), "{}", failure.expect("it is there"));
    let missing: Vec<&str> = totals.injected.missing().map(Kind::name).collect();
    assert!(missing.is_empty(), "never injected: {missing:?}");
    assert!(totals.messages > 300 * 100, "only {} messages", totals.messages);
    let mut played = played.into_inner().expect("sound");
    played.sort_unstable();
    assert_eq!(played, (1..=300).collect::<Vec<u64>>(), "each seed once");
    assert_eq!(totals.seeds, 300);
}

/// Seeds that broke a promise once, and the test that keeps what they showed of the product, or what the simulator took for
/// a broken promise. It has drawn other worlds from them since.
const FAILED_BEFORE: &[(u64, &str)] = &[
    (29, "a_reboot_of_a_process_log_may_lose_anything_but_order"),
    (780, "records_that_a_reboot_left_behind_older_headers_do_no_harm"),
    (20191, "void_segments_stay_void_when_those_before_them_are_recycled"),
    (3197, "the_one_free_slot_of_a_log_may_hold_what_a_reboot_left"),
    (
        2976,
        "a_publisher_that_waits_for_a_barrier_is_told_that_its_stream_was_deleted_also_when_it_is_lost",
    ),
    (489, "a_reader_that_asks_again_is_told_of_a_deleted_stream_until_it_gives_up"),
    (948, "a_reader_that_catches_up_within_a_page_gives_it_back"),
    (1313, "a_reader_that_catches_up_within_a_page_gives_it_back"),
    (1437, "a_reader_that_catches_up_within_a_page_gives_it_back"),
    (40022483, "a_stream_goes_on_behind_what_is_held_of_it_elsewhere"),
    (90040622, "what_a_publisher_stored_lies_below_the_end_of_its_stream"),
    (30293, "what_a_lost_answer_leaves_in_a_full_table_is_given_up"),
    (111, "divergence_is_found_in_cold_segments_too"),
    (2423, "each_planted_bug_is_found: ColdEpochsForgotten"),
    (174, "an_answer_that_waits_is_not_mixed_with_a_question_that_is_asked_again"),
    (189, "a log that was lost in part"),
    (199, "a log that was lost in part"),
    (229, "forged datagrams"),
    (807, "forged datagrams"),
    (430, "what a reboot took says nothing about publishers"),
    (1545, "what a reboot took says nothing about publishers"),
    (7573, "a shard is polled while there is something to do"),
    (8826, "a shard is polled while there is something to do"),
    (9004299, "what is heard late promises nothing that was recycled"),
    (20076293, "what is acknowledged late promises nothing of what took its place"),
    (41031963, "what a reboot took"),
    (50000292, "what a reboot took"),
    (60009575, "what a reboot took"),
    (110021891, "a reboot takes longer than epochs are ahead of the wall clock"),
    (1100047908, "a log waits for a segment for longer than publishers are kept waiting"),
    (1200003935, "at the end all frames are taken before sessions time out"),
    (1795754131826204972, "after a loss the log passes over what is lost"),
    (1795768168973208028, "segments were short a moment ago"),
];

#[test]
fn worlds_that_failed_before() {
    for (seed, what) in FAILED_BEFORE {
        let steps = if *seed == 20191 { 3_000 } else { 1_500 };
        let played = run(Run { steps, ..Run::new(*seed) }, Honest);
        assert!(played.is_ok(), "{what}: {}", played.expect_err("it failed"));
    }
}

#[test]
fn each_kind_of_fault_alone() {
    for kind in Kind::ALL {
        let mut injected = Injected::default();
        for seed in 1..=16 {
            let wanted = Run { steps: 800, mix: Mix::only(*kind), ..Run::new(seed) };
            injected.add(&play(wanted).injected);
        }
        assert!(injected.of(*kind) > 0, "{} never happened", kind.name());
        for other in Kind::ALL.iter().filter(|other| *other != kind) {
            assert_eq!(injected.of(*other), 0, "{} happened with {}", other.name(), kind.name());
        }
    }
}

#[test]
fn a_world_without_faults_is_at_rest_soon() {
    for seed in 1..=20 {
        let outcome = play(Run { steps: 300, mix: Mix::NONE, ..Run::new(seed) });
        assert_eq!(outcome.injected, Injected::default());
        assert!(outcome.messages > 0 && outcome.polls > 0 && outcome.passed_ns > 0);
    }
}

#[test]
fn a_world_has_exactly_the_clients_that_were_asked_for() {
    for seed in 1..=4 {
        let wanted = Run { steps: 300, mix: Mix::NONE, trace: true, ..Run::new(seed) };
        let outcome = play(Run { publishers: 2, subscribers: 3, exactly: true, ..wanted });
        let has = |who: &str| outcome.trace.contains(who);
        assert!(has("publisher 2/1 open") && !has("publisher 3/1 open"), "seed {seed}");
        assert!(has("subscriber 3 starts"), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 4, 5, 29, 77, 1_000_003] {
        let (first, second) = (traced(seed, 700), traced(seed, 700));
        assert!(first.trace.lines().count() > 50, "it says what happens");
        assert_eq!(first, second);
    }
    assert_ne!(traced(1, 300).trace, traced(2, 300).trace);
    // A world is the same whether others are played beside it or not.
    let campaign = Campaign {
        first: Run { steps: 300, trace: true, ..Run::new(1) },
        seeds: Seeds::Count(8),
        jobs: 4,
    };
    let compare = |seed, outcome: &Outcome| assert_eq!(*outcome, traced(seed, 300));
    assert!(play_seeds(campaign, compare).1.is_none());
}

#[test]
fn a_mix_is_what_its_text_says() {
    for mix in [Mix::NONE, Mix::ALL, Mix::only(Kind::Kill), Mix::only(Kind::TornPoll)] {
        assert_eq!(mix.to_string().parse(), Ok(mix));
    }
    assert_eq!("all".parse(), Ok(Mix::ALL));
    assert!("loss,fire".parse::<Mix>().is_err());
}

#[test]
fn a_shorter_run_is_found_and_fails_alike() {
    // Stands for a bug that shows from step 100 on when there is loss: the rest of a run is of no use.
    let fails = |run: Run| {
        let shows = run.steps >= 100 && run.mix.has(Kind::Loss);
        let broken = mstream_sim::invariants::Broken { invariant: "told", what: String::new() };
        let (picked, trace) = (run.mix, String::new());
        shows.then(|| Box::new(mstream_sim::Failure { run, picked, step: 100, broken, trace }))
    };
    let failure = fails(Run::new(7)).expect("it fails");
    let less = shrink(failure, fails);
    assert_eq!((less.run.steps, less.run.mix), (100, Mix::only(Kind::Loss)));
    assert_eq!((less.run.publishers, less.run.subscribers), (1, 1));
    let text = less.to_string();
    assert!(
        text.contains("mstream-sim --seed 7 --steps 100 --faults loss --publishers 1"),
        "{text}"
    );
}
