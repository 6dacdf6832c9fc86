//! The process's memory holds the keys of the CA: nobody else gets to see it (LOG-06).

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// No core file, no debugger of the same user, and no swapping where the limit of locked memory allows it; gives in
/// words what the system refused.
pub fn keep() -> Vec<String> {
    let mut refused = Vec::new();
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        refused.push(format!("core files could not be switched off: {error}"));
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        refused.push(format!("debuggers could not be kept out: {error}"));
    }
    // Under a limit a later allocation would fail: better swapped than ended.
    if getrlimit(Resource::Memlock).current.is_none() || may_lock_beyond_the_limit() {
        // On fault: only what is used is locked, and nothing is made resident for it.
        let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        if let Err(error) = mlockall(all) {
            refused.push(format!("memory could not be kept from being swapped: {error}"));
        }
    }
    refused
}

fn may_lock_beyond_the_limit() -> bool {
    capabilities(None).is_ok_and(|held| held.effective.contains(CapabilitySet::IPC_LOCK))
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn log_06_the_process_is_not_dumpable_and_leaves_no_core_file() {
        set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
        keep();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
    }
}
