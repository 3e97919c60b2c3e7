//! The catalogue at start: what the configuration adds, what stands in its way, damage.

mod common;

use std::fs;

use common::Setting;
use common::admin::{Admin, by_name};

#[test]
fn configured_streams_are_in_the_catalogue_and_conflicts_are_refused_with_their_line() {
    let mut setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    assert_eq!(admin.streams(), [(1, "s".to_string())]);
    admin.create(&["t", "u"]);
    admin.delete(vec![by_name("u")]);
    admin.register(&["x"]);
    node.stop();
    let sound = setting.text.clone();
    let file = setting.file().display().to_string();
    for (entry, reason) in [
        ("[[stream]]\nid = 9\nname = \"t\"", "stream `t` exists already, with id 2"),
        ("[[stream]]\nid = 2\nname = \"other\"", "id 2 is stream `t`"),
        (
            "[[stream]]\nid = 3\nname = \"u\"",
            "id 3 was that of a deleted stream, and ids are never used again",
        ),
        ("[[publisher]]\nid = 9\nname = \"x\"", "publisher `x` exists already, with id 2"),
        ("[[publisher]]\nid = 2\nname = \"y\"", "id 2 is publisher `x`"),
    ] {
        setting.text = format!("{sound}{entry}\n");
        let at = sound.lines().count() + 1;
        let text = setting.refused();
        assert_eq!(text, format!("mstreamd: {file}:{at}: catalogue: {reason}"));
    }
    // Two at once, in the order of the file; and nothing was changed by all that.
    let entries = "[[stream]]\nid = 8\nname = \"new\"\n[[stream]]\nid = 2\nname = \"o\"\n\
                   [[publisher]]\nid = 2\nname = \"y\"\n";
    setting.text = format!("{sound}{entries}");
    let text = setting.refused();
    assert_eq!(text.lines().count(), 2, "{text}");
    setting.text = format!("{sound}[[stream]]\nid = 2\nname = \"t\"\n");
    let node = setting.start();
    let admin = Admin::at(node.admin());
    assert_eq!(admin.streams(), [(1, "s".to_string()), (2, "t".to_string())]);
    assert_eq!(admin.create(&["v"]).remove(0).expect("room").id, 4);
    node.stop();
}

#[test]
fn fewer_places_than_streams_are_refused() {
    let mut setting = Setting::socket();
    let node = setting.start();
    Admin::at(node.admin()).create(&["a", "b"]);
    node.stop();
    setting.add("[limits]\nstreams = 2");
    let text = setting.refused();
    assert!(
        text.contains(
            "catalogue: [limits] streams, on shard 0: there are 3 already, and the limit is 2"
        ),
        "{text}"
    );
}

#[test]
fn a_damaged_catalogue_is_refused_with_file_and_byte_and_a_torn_tail_is_cut() {
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    admin.create(&["a"]);
    admin.create(&["b"]);
    node.kill();
    let path = setting.log.join("catalogue.log");
    let sound = fs::read(&path).expect("it is there");
    let mut damaged = sound.clone();
    damaged[40] ^= 1;
    fs::write(&path, &damaged).expect("written");
    let text = setting.refused();
    let expected = format!("mstreamd: catalogue: {}: damaged at byte 32: ", path.display());
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(fs::read(&path).expect("still there"), damaged);
    fs::write(&path, &sound[..sound.len() - 3]).expect("written");
    let node = setting.start();
    node.wait_line("of an interrupted write were cut off");
    let streams = Admin::at(node.admin()).streams();
    assert_eq!(streams, [(2, "a".to_string()), (1, "s".to_string())]);
    node.stop();
}

#[test]
fn a_lost_catalogue_gives_out_no_id_that_the_log_knows() {
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    admin.create(&["a", "b"]);
    let mut writer = common::traffic::udp(&setting, mstream_client::Identity::Anonymous);
    writer = writer.publishing("b");
    writer.publish_all(5);
    node.stop();
    fs::remove_file(setting.log.join("catalogue.log")).expect("removed");
    let node = setting.start();
    node.wait_line("streams that it never knew");
    let admin = Admin::at(node.admin());
    assert_eq!(admin.streams(), [(1, "s".to_string())]);
    assert!(admin.create(&["b"]).remove(0).expect("room").id > 3);
    node.stop();
}

#[test]
fn the_catalogue_may_have_a_directory_of_its_own() {
    let mut setting = Setting::socket();
    let dir = setting.dir.path().join("catalogue");
    let key = format!("id = 7\ncatalogue_dir = \"{}\"", dir.display());
    setting.text = setting.text.replacen("id = 7", &key, 1);
    let node = setting.start();
    Admin::at(node.admin()).create(&["a"]);
    node.kill();
    assert!(dir.join("catalogue.log").exists() && !setting.log.join("catalogue.log").exists());
    let node = setting.start();
    assert_eq!(Admin::at(node.admin()).streams().len(), 2);
    node.stop();
}
