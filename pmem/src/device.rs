//! What speaks against the persistence of memory that is mapped with MAP_SYNC: the kernel grants it for any DAX
//! device, also for one whose memory a power cut empties.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::copy;

/// Why a barrier on the DAX file `file` may not outlive a power cut, in words; nothing when nothing speaks
/// against it.
pub(crate) fn doubt(file: &File) -> io::Result<Option<String>> {
    let number = file.metadata()?.dev();
    let block = format!("/sys/dev/block/{}:{}", libc::major(number), libc::minor(number));
    let found = doubt_of(Path::new(&block));
    let virtual_machine = "the memory is a virtual machine's: its host alone knows what keeps it";
    Ok(found.or_else(|| copy::under_hypervisor().then(|| virtual_machine.to_string())))
}

/// As [`doubt`], for the block device whose directory in sysfs is `block`. What cannot be found out is a doubt.
fn doubt_of(block: &Path) -> Option<String> {
    let device = match fs::canonicalize(block) {
        Ok(device) => device,
        Err(error) => return Some(format!("the device is unknown: {}: {error}", block.display())),
    };
    let below = layers(&device);
    if !below.is_empty() {
        return below.iter().find_map(|layer| doubt_of(layer));
    }
    // .../ndbus0/region0/pfn0.1/block/pmem0, and .../pmem0/pmem0p1 for a partition
    // (Documentation/driver-api/nvdimm/nvdimm.rst in the kernel's sources).
    let Some(region) = device.ancestors().find(|parent| parent.join("mappings").is_file()) else {
        return Some(format!("{} is no NVDIMM", device.display()));
    };
    doubt_of_region(region).unwrap_or_else(|error| Some(format!("{}: {error}", region.display())))
}

/// The devices that a mapper's or an array's is made of.
fn layers(device: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
    listed.map(|entry| entry.path()).collect()
}

/// A region is made of memory modules, or of a range of addresses that somebody says is persistent.
fn doubt_of_region(region: &Path) -> io::Result<Option<String>> {
    let bus = region.parent().unwrap_or(region);
    let modules = read(&region.join("mappings"))?;
    let modules: u32 =
        modules.parse().map_err(|_| io::Error::other(format!("mappings: {modules}")))?;
    if modules == 0 {
        let provider = read(&bus.join("provider"))?;
        return Ok(Some(format!("no memory module stands behind it, only the word of {provider}")));
    }
    for number in 0..modules {
        // nmem0,0,268435456,0
        let mapping = read(&region.join(format!("mapping{number}")))?;
        let module = mapping.split(',').next().unwrap_or_default();
        let of_module = bus.join(module);
        // Only an NFIT table describes the state of its modules.
        if of_module.is_dir() && !of_module.join("nfit").is_dir() {
            continue;
        }
        let flags = read(&of_module.join("nfit/flags"))?;
        // Flags of the NFIT's state of a module (ACPI 6.5, 5.2.25.3) as drivers/acpi/nfit names them.
        let told = ["not_armed", "save_fail", "restore_fail", "flush_fail", "map_fail"];
        if let Some(flag) = flags.split_whitespace().find(|flag| told.contains(flag)) {
            return Ok(Some(format!("memory module {module} says {flag}")));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> io::Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_string()),
        Err(error) => Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree as sysfs shows it: a device on a region of one module.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Tree {
            let tree = Tree(tempfile::tempdir().expect("a directory"));
            tree.write("ndbus0/provider", "ACPI.NFIT");
            tree.write("ndbus0/nmem0/nfit/flags", "");
            tree.write("ndbus0/region0/mappings", "1");
            tree.write("ndbus0/region0/mapping0", "nmem0,0,268435456,0");
            tree.write("ndbus0/region0/pfn0.1/block/pmem0/pmem0p1/partition", "1");
            tree
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, format!("{text}\n")).expect("written");
        }

        fn remove(&self, path: &str) {
            fs::remove_file(self.0.path().join(path)).expect("it is there");
        }

        /// The doubt about a device, which is the same for its partition.
        fn doubt(&self) -> String {
            let device = self.0.path().join("ndbus0/region0/pfn0.1/block/pmem0");
            let doubt = doubt_of(&device);
            assert_eq!(doubt, doubt_of(&device.join("pmem0p1")));
            doubt.unwrap_or_default()
        }
    }

    #[test]
    fn an_armed_module_is_not_doubted() {
        let tree = Tree::new();
        assert_eq!(tree.doubt(), "");
        tree.write("ndbus0/nmem0/nfit/flags", "smart_event smart_notify");
        assert_eq!(tree.doubt(), "", "it wants to be looked at, and keeps what it has");
    }

    #[test]
    fn what_a_module_says_is_named() {
        let tree = Tree::new();
        tree.write("ndbus0/nmem0/nfit/flags", "smart_event not_armed");
        assert_eq!(tree.doubt(), "memory module nmem0 says not_armed");
        tree.write("ndbus0/nmem0/nfit/flags", "");
        tree.write("ndbus0/region0/mappings", "2");
        tree.write("ndbus0/region0/mapping1", "nmem1,0,268435456,0");
        tree.write("ndbus0/nmem1/nfit/flags", "flush_fail ");
        assert_eq!(tree.doubt(), "memory module nmem1 says flush_fail");
    }

    #[test]
    fn memory_without_modules_is_doubted() {
        let tree = Tree::new();
        tree.write("ndbus0/provider", "e820");
        tree.write("ndbus0/region0/mappings", "0");
        assert!(tree.doubt().ends_with("the word of e820"), "{}", tree.doubt());
    }

    #[test]
    fn modules_that_no_nfit_describes_have_no_flags() {
        let tree = Tree::new();
        tree.remove("ndbus0/nmem0/nfit/flags");
        assert!(tree.doubt().contains("region0: flags: No such file"), "{}", tree.doubt());
        fs::remove_dir(tree.0.path().join("ndbus0/nmem0/nfit")).expect("empty");
        assert_eq!(tree.doubt(), "");
        fs::remove_dir(tree.0.path().join("ndbus0/nmem0")).expect("empty");
        assert!(tree.doubt().contains("region0: flags: No such file"), "{}", tree.doubt());
    }

    #[test]
    fn what_cannot_be_found_out_is_doubted() {
        let tree = Tree::new();
        tree.write("ndbus0/region0/mappings", "some");
        assert!(tree.doubt().ends_with("region0: mappings: some"), "{}", tree.doubt());
        tree.remove("ndbus0/region0/mappings");
        let disk = doubt_of(&tree.0.path().join("ndbus0/region0/pfn0.1/block/pmem0"));
        assert!(disk.is_some_and(|doubt| doubt.ends_with("/pmem0 is no NVDIMM")));
        let missing = doubt_of(&tree.0.path().join("0:41")).expect("not there");
        assert!(missing.starts_with("the device is unknown"), "{missing}");
    }

    #[test]
    fn a_mapped_device_is_as_doubtful_as_the_worst_below() {
        let tree = Tree::new();
        let mapper = tree.0.path().join("dm-0");
        let layer = |name: &str, device: &str| {
            std::os::unix::fs::symlink(tree.0.path().join(device), mapper.join("slaves").join(name))
        };
        fs::create_dir_all(mapper.join("slaves")).expect("made");
        layer("pmem0", "ndbus0/region0/pfn0.1/block/pmem0").expect("linked");
        assert_eq!(doubt_of(&mapper), None);
        tree.write("sda/size", "8");
        layer("sda", "sda").expect("linked");
        let doubt = doubt_of(&mapper).expect("a disk");
        assert!(doubt.contains("sda is no NVDIMM"), "{doubt}");
    }

    #[test]
    fn a_file_of_this_machine_is_doubted() {
        // No DAX here, whatever the machine.
        let file = tempfile::tempfile_in("/dev/shm").expect("a file");
        let doubt = doubt(&file).expect("asked").expect("tmpfs");
        assert!(doubt.contains("the device is unknown: /sys/dev/block/0:"), "{doubt}");
    }
}
