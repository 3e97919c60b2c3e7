//! Many worlds, in which no promise is broken.

use mstream_sim::{Honest, Injected, Kind, Mix, Outcome, Run, run};

fn play(seed: u64, steps: u64, mix: Mix, trace: bool) -> Outcome {
    match run(Run { seed, steps, mix, trace }, Honest) {
        Ok(outcome) => outcome,
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn three_hundred_worlds_with_all_faults() {
    let mut injected = Injected::default();
    let mut messages = 0;
    for seed in 1..=300 {
        let outcome = play(seed, 500, Mix::ALL, false);
        injected.add(&outcome.injected);
        messages += outcome.messages;
    }
    let missing: Vec<&str> = injected.missing().map(Kind::name).collect();
    assert!(missing.is_empty(), "never injected: {missing:?}");
    assert!(messages > 300 * 100, "only {messages} messages");
}

/// Seeds that broke a promise once.
#[test]
fn worlds_that_failed_before() {
    for seed in [1, 3, 16, 29, 43, 58, 143, 2355, 5788, 6416, 6500, 6905, 6929, 7198] {
        play(seed, 1_500, Mix::ALL, false);
    }
}

#[test]
fn each_kind_of_fault_alone() {
    for kind in Kind::ALL {
        let mut injected = Injected::default();
        for seed in 1..=12 {
            injected.add(&play(seed, 600, Mix::only(*kind), false).injected);
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
        let outcome = play(seed, 300, Mix::NONE, false);
        assert_eq!(outcome.injected, Injected::default());
        assert!(outcome.messages > 0);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [2, 3, 4, 77, 1_000_003] {
        let first = play(seed, 700, Mix::ALL, true);
        let second = play(seed, 700, Mix::ALL, true);
        assert!(first.trace.lines().count() > 300, "it says what happens");
        assert_eq!(first, second);
    }
    assert_ne!(play(1, 300, Mix::ALL, true).trace, play(2, 300, Mix::ALL, true).trace);
}

#[test]
fn a_mix_is_what_its_text_says() {
    for mix in [Mix::NONE, Mix::ALL, Mix::only(Kind::Kill), Mix::only(Kind::PowerCut)] {
        assert_eq!(mix.to_string().parse(), Ok(mix));
    }
    assert_eq!("all".parse(), Ok(Mix::ALL));
    assert!("loss,fire".parse::<Mix>().is_err());
}
