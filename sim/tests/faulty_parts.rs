//! Parts that break their promises, each of which must be noticed.

mod common;

use common::{Eager, Meddling, PortFrame, rewrite};
use mstream_nic::sim::SimPort;
use mstream_pmem::region::Region;
use mstream_pmem::sim::SimRegion;
use mstream_sim::{Kind, Mix, Parts, Run, run};
use mstream_wire::{Ack, DataHeader, Frame as Wire};

/// Plays seeds until one fails; what it said.
fn caught<X: Parts>(mix: Mix, mut parts: impl FnMut() -> X) -> String {
    for seed in 1..=200 {
        if let Err(failure) = run(Run { steps: 600, mix, ..Run::new(seed) }, parts()) {
            let text = failure.to_string();
            let repeat = format!("mstream-sim --seed {seed} --steps 600");
            assert!(text.contains(&repeat), "it says how to repeat it: {text}");
            return text;
        }
    }
    panic!("200 seeds, and nothing was noticed");
}

/// Honest but for one part.
struct Planted<R: Region> {
    region: fn(SimRegion) -> R,
    shard: Option<fn(&mut PortFrame) -> bool>,
    client: Option<fn(&mut PortFrame) -> bool>,
}

/// A region type with the way to its inside.
trait Inside: Region {
    fn inside(&self) -> &SimRegion;
}

impl Inside for SimRegion {
    fn inside(&self) -> &SimRegion {
        self
    }
}

impl Inside for Eager {
    fn inside(&self) -> &SimRegion {
        &self.region
    }
}

fn honest(port: SimPort, meddle: Option<fn(&mut PortFrame) -> bool>) -> Meddling {
    Meddling::new(port, meddle.unwrap_or(|_| true))
}

impl<R: Inside> Parts for Planted<R> {
    type Region = R;
    type ShardPort = Meddling;
    type ClientPort = Meddling;

    fn region(&mut self, region: SimRegion) -> R {
        (self.region)(region)
    }
    fn inner(region: &R) -> &SimRegion {
        region.inside()
    }
    fn shard_port(&mut self, port: SimPort) -> Meddling {
        honest(port, self.shard)
    }
    fn client_port(&mut self, port: SimPort) -> Meddling {
        honest(port, self.client)
    }
}

fn ports(
    shard: Option<fn(&mut PortFrame) -> bool>,
    client: Option<fn(&mut PortFrame) -> bool>,
) -> Planted<SimRegion> {
    Planted { region: |region| region, shard, client }
}

#[test]
fn wrappers_that_change_nothing_break_nothing() {
    for seed in 1..=10 {
        let wanted = Run { steps: 600, ..Run::new(seed) };
        run(wanted, ports(None, None)).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn barriers_that_complete_before_stores_are_durable() {
    let text = caught(Mix::only(Kind::LateBarrier), || Planted {
        region: Eager::new,
        shard: None,
        client: None,
    });
    assert!(text.contains("a power cut could take it"), "{text}");
}

#[test]
fn acks_that_say_more_than_is_true() {
    fn all_is_committed(frame: &mut PortFrame) -> bool {
        rewrite(frame, |part, writer| match part {
            Wire::Ack(ack) if ack.received.get() > ack.committed.get() => {
                let more = ack.received.get() - ack.committed.get();
                let offset = (ack.offset.get() + more).into();
                writer.ack(&Ack { committed: ack.received, offset, ..**ack })
            }
            _ => false,
        });
        true
    }
    let text = caught(Mix::only(Kind::LateBarrier), || ports(Some(all_is_committed), None));
    assert!(text.contains("acknowledged"), "{text}");
}

#[test]
fn deliveries_under_another_offset() {
    fn one_further(frame: &mut PortFrame) -> bool {
        rewrite(frame, |part, writer| match part {
            // Of one message nothing would be left but a repeat, which is dropped.
            Wire::Deliver(data) if data.header.count.get() > 1 && data.header.number.get() > 0 => {
                let number = (data.header.number.get() - 1).into();
                writer.data(&DataHeader { number, ..*data.header }, data.block)
            }
            _ => false,
        });
        true
    }
    let text = caught(Mix::NONE, || ports(Some(one_further), None));
    assert!(text.contains("was delivered as"), "{text}");
}

#[test]
fn deliveries_that_never_come() {
    fn lose(frame: &mut PortFrame) -> bool {
        let mut lost = false;
        rewrite(frame, |part, _| {
            if let Wire::Deliver(data) = part {
                let (first, count) = (data.header.number.get(), u64::from(data.header.count.get()));
                lost |= first <= 40 && first + count > 40;
            }
            false
        });
        !lost
    }
    let text = caught(Mix::NONE, || ports(Some(lose), None));
    assert!(text.contains("not at rest"), "{text}");
}

#[test]
fn publishers_that_repeat_a_batch_as_a_new_one() {
    fn again(frame: &mut PortFrame) -> bool {
        rewrite(frame, |part, writer| match part {
            Wire::Publish(data) if data.header.number.get() % 8 == 1 => {
                // Once as it is, and once more under the numbers that follow.
                let count = u64::from(data.header.count.get());
                let number = (data.header.number.get() + count).into();
                let twice = DataHeader { number, ..*data.header };
                writer.data(data.header, data.block);
                writer.data(&twice, data.block);
                true
            }
            _ => false,
        });
        true
    }
    let text = caught(Mix::NONE, || ports(None, Some(again)));
    assert!(text.contains("lost, repeated or reordered") || text.contains("again"), "{text}");
}
