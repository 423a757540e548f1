//! Real servers on the loopback, for the tests of targets: Debian's `docker-registry` with TLS and
//! passwords, and moto's S3.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::fixture::skip;
use crate::target::{BucketAccess, BucketTarget, Credentials, RegistryTarget, Secret, TargetError};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(120);

/// Names of the servers' users.
pub(super) const USER: &str = "ada";
/// Their password.
pub(super) const PASSWORD: &str = "correct horse";

/// A server that ends with the test.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    home: tempfile::TempDir,
    places: AtomicUsize,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// Debian's registry; none, loudly, where it is not installed.
    pub(super) fn registry() -> Option<Self> {
        for program in ["docker-registry", "htpasswd", "openssl"] {
            if !is_installed(program) {
                skip(&format!("{program} is not installed"));
                return None;
            }
        }
        let home = tempfile::tempdir().unwrap();
        make_certificates(home.path());
        let users = Command::new("htpasswd")
            .args(["-Bbn", USER, PASSWORD])
            .output()
            .unwrap();
        fs::write(home.path().join("users"), users.stdout).unwrap();
        let port = free_port();
        let at = home.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {at}/data}}\n\
             http:\n  addr: 127.0.0.1:{port}\n  secret: test\n  tls: {{certificate: {at}/server.crt, \
             key: {at}/server.key}}\nauth:\n  htpasswd: {{realm: test, path: {at}/users}}\n"
        );
        fs::write(home.path().join("config.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(home.path().join("config.yml"));
        Some(Self::started(command, port, home))
    }

    /// moto's S3, whose program stands in the variable `BAKER_MOTO`; none, loudly, without it.
    pub(super) fn bucket() -> Option<Self> {
        let Some(program) = std::env::var_os("BAKER_MOTO").map(PathBuf::from) else {
            skip("BAKER_MOTO names no moto_server: eval \"$(scripts/judges)\"");
            return None;
        };
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let server = Self::started(command, port, tempfile::tempdir().unwrap());
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let request = "PUT /bakery HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
            Connection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
        Some(server)
    }

    fn started(mut command: Command, port: u16, home: tempfile::TempDir) -> Self {
        let log = fs::File::create(home.path().join("log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = command.spawn().unwrap();
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(home.path().join("log")).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "it ended: {}", log());
            assert!(since.elapsed() < PATIENCE, "it does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            child,
            port,
            home,
            places: AtomicUsize::new(0),
        }
    }

    /// A path or prefix that no test has used.
    pub(super) fn place(&self) -> String {
        format!("place{}", self.places.fetch_add(1, Ordering::Relaxed))
    }

    /// The certificate authority of the registry.
    pub(super) fn authority(&self) -> PathBuf {
        self.home.path().join("ca.crt")
    }

    /// Everything that the server has said.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap()
    }
}

/// The registry at `port` with the right password.
pub(super) fn registry_at(port: u16, path: &str, authority: &Path) -> RegistryTarget {
    let credentials = Credentials::new(USER.to_owned(), PASSWORD.to_owned());
    registry_as(port, path, Some(credentials), Some(authority)).unwrap()
}

pub(super) fn registry_as(
    port: u16,
    path: &str,
    credentials: Option<Credentials>,
    authority: Option<&Path>,
) -> Result<RegistryTarget, TargetError> {
    RegistryTarget::new(&format!("localhost:{port}"), path, credentials, authority)
}

/// The bucket of the server at `port`.
pub(super) fn bucket_at(port: u16, prefix: &str) -> BucketTarget {
    let access = BucketAccess {
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        region: None,
        key_id: Some(USER.to_owned()),
        secret: Some(Secret::new(PASSWORD.to_owned())),
        token: None,
    };
    BucketTarget::new("bakery", prefix, &access, None).unwrap()
}

fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|path| path.join(program).is_file())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A certificate authority, and a certificate of `localhost` by it.
fn make_certificates(folder: &Path) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl")
            .args(args)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let curve = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let authority = [
        "req",
        "-x509",
        "-days",
        "30",
        "-subj",
        "/CN=test CA",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    ];
    openssl(&[&authority[..], &curve].concat());
    let request = [
        "req",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
    ];
    openssl(&[&request[..], &curve].concat());
    fs::write(
        folder.join("names"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
    )
    .unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "30",
        "-extfile",
        "names",
        "-out",
        "server.crt",
    ]);
}
