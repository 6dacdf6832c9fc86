//! Which mounts are shown: those that `df` without options shows, so that both name the same file systems. Pure.
//!
//! `df` leaves out what has no blocks, and of several mounts of one device keeps the one nearest to the root.

use std::collections::BTreeMap;

use super::mountinfo::Mount;

/// Types that `df` does not show even if they had blocks.
const DUMMY: [&str; 14] = [
    "autofs",
    "proc",
    "subfs",
    "debugfs",
    "devpts",
    "fusectl",
    "fuse.portal",
    "mqueue",
    "rpc_pipefs",
    "sysfs",
    "devfs",
    "kernfs",
    "ignore",
    "none",
];
/// Types that never have blocks: asking them would change nothing.
const WITHOUT_BLOCKS: [&str; 9] =
    ["binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "nsfs", "pstore", "securityfs", "tracefs"];
/// Types that are remote whatever their source looks like.
const REMOTE: [&str; 9] = ["acfs", "afs", "coda", "auristorfs", "fhgfs", "gpfs", "ibrix", "ocfs2", "vxfs"];
/// Types that are remote with a source like `//server/share`.
const SHARES: [&str; 3] = ["smbfs", "smb3", "cifs"];

/// Whether the mount can be one that is shown.
pub(super) fn is_candidate(mount: &Mount) -> bool {
    let fs_type = mount.fs_type.as_str();
    !DUMMY.contains(&fs_type) && !WITHOUT_BLOCKS.contains(&fs_type)
}

fn is_remote(mount: &Mount) -> bool {
    let fs_type = mount.fs_type.as_str();
    mount.source.contains(&b':')
        || (mount.source.starts_with(b"//") && SHARES.contains(&fs_type))
        || REMOTE.contains(&fs_type)
        || mount.source == b"-hosts"
}

/// The places of the mounts to show, out of mounts in the kernel's order with their device numbers; a mount whose
/// device is not known is shown.
pub(super) fn without_duplicates(mounts: &[(&Mount, Option<u64>)]) -> Vec<usize> {
    let mut kept: BTreeMap<u64, usize> = BTreeMap::new();
    let mut shown = Vec::new();
    for (place, (mount, device)) in mounts.iter().enumerate() {
        let Some(device) = device else {
            shown.push(place);
            continue;
        };
        let former =
            kept.get(device).and_then(|former| mounts.get(*former).map(|(mount, _)| (*former, *mount)));
        match former {
            None => {
                kept.insert(*device, place);
                shown.push(place);
            }
            Some((_, former)) if is_remote(mount) && is_remote(former) && mount.source != former.source => {
                // Two exports of one server may share a device number.
                shown.push(place);
            }
            Some((former_place, former)) if wins(mount, former) => {
                shown.retain(|shown| *shown != former_place);
                kept.insert(*device, place);
                shown.push(place);
            }
            Some(_) => {}
        }
    }
    shown
}

/// Whether the later mount of a device is shown instead of the former one.
fn wins(mount: &Mount, former: &Mount) -> bool {
    let names_a_path = |mount: &Mount| mount.source.contains(&b'/');
    let nearer_to_root = former.mount_point.len() > mount.mount_point.len();
    let below_its_root = former.root.len() < mount.root.len();
    let mounted_over = mount.source != former.source && mount.mount_point == former.mount_point;
    (names_a_path(mount) && !names_a_path(former)) || (nearer_to_root && !below_its_root) || mounted_over
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(list: &[(&str, u64)]) -> Vec<String> {
        let mounts: Vec<Mount> =
            list.iter().map(|(line, _)| super::super::mountinfo::parse(line.as_bytes()).unwrap()).collect();
        let numbered: Vec<_> =
            mounts.iter().zip(list).map(|(mount, (_, device))| (mount, Some(*device))).collect();
        let text = |place: &usize| String::from_utf8_lossy(&mounts[*place].mount_point).into_owned();
        without_duplicates(&numbered).iter().map(text).collect()
    }

    #[test]
    fn of_several_mounts_of_a_device_the_one_nearest_to_the_root_is_shown() {
        let list = [
            ("1 0 8:1 /srv /srv/data/bind rw - ext4 /dev/sda1 rw", 1),
            ("2 0 8:1 / / rw - ext4 /dev/sda1 rw", 1),
            ("3 0 8:1 /home /home rw - ext4 /dev/sda1 rw", 1),
        ];
        assert_eq!(shown(&list), ["/"]);
    }

    #[test]
    fn what_is_mounted_over_another_mount_is_shown() {
        let list = [("1 0 0:9 / /mnt rw - tmpfs first rw", 7), ("2 0 0:10 / /mnt rw - tmpfs second rw", 7)];
        assert_eq!(shown(&list), ["/mnt"]);
    }

    #[test]
    fn a_source_that_is_a_path_wins_over_a_word_although_it_is_farther_from_the_root() {
        let list = [
            ("1 0 8:1 / / rw - ext4 root rw", 1),
            ("2 0 8:1 / /mnt rw - ext4 /dev/sda1 rw", 1),
            ("3 0 8:1 / /m rw - ext4 word rw", 1),
        ];
        assert_eq!(shown(&list), ["/m"], "and then again the one nearest to the root");
        assert_eq!(shown(&list[..2]), ["/mnt"]);
    }

    #[test]
    fn two_exports_of_one_server_are_both_shown() {
        let list = [
            ("1 0 0:40 / /home rw - nfs4 server:/home rw", 40),
            ("2 0 0:40 / /data rw - nfs4 server:/data rw", 40),
            ("3 0 0:40 / /data2 rw - nfs4 server:/data rw", 40),
        ];
        assert_eq!(shown(&list), ["/home", "/data", "/data2"]);
    }
}
