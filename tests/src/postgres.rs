//! A private PostgreSQL server in a folder of its own.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io::Write};

use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Program, command, run};
use crate::wait::until;

/// A first start makes a whole database cluster; a loaded machine needs a while.
const READY: Duration = Duration::from_mins(1);
/// Longest wait for a clean stop.
const STOP: Duration = Duration::from_secs(20);
/// PostgreSQL refuses to run as root; Debian's package brings this user.
const USER: &str = "postgres";

/// A PostgreSQL server that is reached by its socket alone; killed when dropped.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    program: Option<Program>,
}

impl Postgres {
    /// Makes a cluster in `dir` and starts it.
    #[track_caller]
    pub fn start(dir: &Path) -> Self {
        let mut server = Self { dir: dir.join(USER), program: None };
        fs::create_dir_all(&server.dir).unwrap();
        if is_root() {
            // The server's user must get at its own folder.
            fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
            let (uid, gid) = server_user();
            chown(&server.dir, Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = server.command("initdb");
        // Not the order of bytes, so that a statement that relies on it fails here.
        initdb.args(["--username=aim", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.args(["--locale-provider=icu", "--icu-locale=en", "--pgdata"]).arg(server.data());
        run(&mut initdb, READY).success();
        server.serve();
        server
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What it wrote so far: every statement with its errors.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("server.log")).unwrap()).into_owned()
    }

    /// One of the server's programs, run as the user that it accepts.
    fn command(&self, name: &str) -> Command {
        let mut started = if is_root() {
            let mut started = command(Path::new("setpriv"));
            let (uid, gid) = server_user();
            started.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
            // A change of the user clears the wish to die with the test, so that it is said again.
            started.args(["--clear-groups", "--pdeathsig", "KILL", "--"]).arg(binary(name));
            started
        } else {
            command(&binary(name))
        };
        started.current_dir(&self.dir);
        started
    }

    /// Starts it, and waits until it takes connections.
    #[track_caller]
    pub fn serve(&mut self) {
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data()).arg("-k").arg(&self.dir);
        server.args(["-h", "", "-c", "fsync=off", "-c", "log_statement=all"]);
        self.program = Some(Program::start(USER, server, &self.dir.join("server.log")));
        until("PostgreSQL takes connections", READY, || {
            assert!(self.program.as_mut().is_some_and(Program::is_running), "PostgreSQL ended at its start");
            let mut probe = self.command("pg_isready");
            (run(probe.arg("-h").arg(&self.dir), STOP).code == 0).then_some(())
        });
    }

    /// Stops it; connections are cut.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut program = self.program.take().unwrap();
        // SIGINT is its fast shutdown.
        program.signal(Signal::INT);
        program.wait(STOP);
    }

    /// The URL of a new and empty database of this name.
    #[track_caller]
    pub fn new_database(&self, name: &str) -> String {
        let mut create = self.command("createdb");
        create.arg("-h").arg(&self.dir).args(["-U", "aim", name]);
        run(&mut create, READY).success();
        format!("postgresql:///{name}?host={}&user=aim", self.dir.display())
    }

    /// SIGKILL to the server; the processes of its connections end because of it.
    #[track_caller]
    pub fn kill(&mut self) {
        self.program.take().unwrap().kill();
        until("no process of PostgreSQL is left", STOP, || self.processes().is_empty().then_some(()));
    }

    /// Holds every process of it where it is: it neither answers nor refuses.
    #[track_caller]
    pub fn freeze(&self) {
        until("every process of PostgreSQL is held", STOP, || {
            // The server first, so that it makes no more of them.
            self.program.as_ref().unwrap().signal(Signal::STOP);
            self.signal_all(Signal::STOP);
            self.processes().into_iter().all(is_held).then_some(())
        });
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    /// The server and what serves its connections: they all work in its data directory.
    fn processes(&self) -> Vec<Pid> {
        let data = self.data();
        let running = fs::read_dir("/proc").into_iter().flatten().flatten();
        let of_ours = running
            .filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|folder| folder == data));
        let pids = of_ours.filter_map(|process| process.file_name().to_str()?.parse().ok());
        pids.filter_map(Pid::from_raw).collect()
    }

    fn signal_all(&self, signal: Signal) {
        for pid in self.processes() {
            // One that has ended meanwhile cannot get it.
            let _ = kill_process(pid, signal);
        }
    }

    /// A file of mode 0600 with the URL of its database.
    pub fn url_file(&self, dir: &Path) -> PathBuf {
        let path = dir.join("postgres.url");
        let mut file = fs::File::create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        writeln!(file, "postgresql:///postgres?host={}&user=aim", self.dir.display()).unwrap();
        path
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.program = None;
        self.signal_all(Signal::KILL);
    }
}

/// State T of `/proc/PID/stat`, which stands after the name in brackets.
fn is_held(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Uid and gid of the server's user: those of the folder that its package makes.
fn server_user() -> (u32, u32) {
    let home = fs::metadata("/var/lib/postgresql")
        .unwrap_or_else(|error| panic!("/var/lib/postgresql: {error}; install the package postgresql"));
    (home.uid(), home.gid())
}

/// The newest installed version's program.
fn binary(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).max();
    newest.unwrap_or_else(|| {
        panic!("/usr/lib/postgresql/*/bin/{name} is missing: install the package postgresql")
    })
}
