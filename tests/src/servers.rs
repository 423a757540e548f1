//! Real servers of releases on the loopback: Debian's `docker-registry` with TLS and passwords, moto's
//! S3, and nginx that takes files.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(120);

/// Name of the servers' user.
pub const USER: &str = "ada";
/// Their password.
pub const PASSWORD: &str = "correct horse";
/// The bucket that there is.
pub const BUCKET: &str = "bakery";

/// A server that ends when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
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
    /// Debian's registry.
    ///
    /// # Errors
    /// What of it is not installed here.
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub fn registry() -> Result<Self, String> {
        for program in ["docker-registry", "htpasswd", "openssl"] {
            if !is_installed(program) {
                return Err(format!("{program} is not installed"));
            }
        }
        let home = folder();
        make_certificates(home.path());
        let mut htpasswd = Command::new("htpasswd");
        let users = run(htpasswd.args(["-Bbn", USER, PASSWORD]));
        write(&home.path().join("users"), &users);
        let port = free_port();
        let at = home.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {at}/data}}\n\
             http:\n  addr: 127.0.0.1:{port}\n  secret: test\n  tls: {{certificate: {at}/server.crt, \
             key: {at}/server.key}}\nauth:\n  htpasswd: {{realm: test, path: {at}/users}}\n"
        );
        write(&home.path().join("config.yml"), config.as_bytes());
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(home.path().join("config.yml"));
        Ok(Self::started(command, port, home))
    }

    /// moto's S3, whose program stands in the variable `BAKER_MOTO`, with one bucket.
    ///
    /// # Errors
    /// The variable is not set.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub fn bucket() -> Result<Self, String> {
        let program = std::env::var_os("BAKER_MOTO").map(PathBuf::from);
        let program = program
            .ok_or("BAKER_MOTO names no moto_server: eval \"$(scripts/judges)\"".to_owned())?;
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let server = Self::started(command, port, folder());
        let request = format!(
            "PUT /{BUCKET} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        let ask = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        let answer = ask().expect("moto answers");
        assert!(answer.contains(" 200 "), "{answer}");
        Ok(server)
    }

    /// nginx with WebDAV at `/cache`, configured as CI.md says.
    ///
    /// # Errors
    /// It is not installed here.
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub fn webdav() -> Result<Self, String> {
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].map(Path::new);
        let program = program.into_iter().find(|path| path.is_file());
        let program = program.ok_or("nginx is not installed")?;
        let (home, port) = (folder(), free_port());
        let at = home.path().display();
        fs::create_dir(home.path().join("cache")).expect("a folder can be made");
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log stderr;\n\
             events {{}}\nhttp {{\n  access_log off;\n  client_body_temp_path {at}/body;\n  \
             proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; \
             scgi_temp_path {at}/s;\n  server {{\n    listen 127.0.0.1:{port};\n    root {at};\n    \
             location /cache/ {{\n      dav_methods PUT;\n      create_full_put_path on;\n      \
             client_max_body_size 0;\n    }}\n  }}\n}}\n"
        );
        write(&home.path().join("nginx.conf"), config.as_bytes());
        let mut command = Command::new(program);
        command.arg("-c").arg(home.path().join("nginx.conf"));
        Ok(Self::started(command, port, home))
    }

    fn started(mut command: Command, port: u16, home: tempfile::TempDir) -> Self {
        let path = home.path().join("log");
        let log = fs::File::create(&path).expect("a log can be made");
        let same = log.try_clone().expect("a file can be shared");
        command.stdin(Stdio::null()).stdout(same).stderr(log);
        let child = command.spawn().expect("the server can be started");
        let mut server = Self {
            child,
            port,
            home,
            places: AtomicUsize::new(0),
        };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "it ended: {}", server.log());
            assert!(
                since.elapsed() < PATIENCE,
                "it does not listen: {}",
                server.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Its port on the loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A path or prefix that no test has used.
    #[must_use]
    pub fn place(&self) -> String {
        format!("place{}", self.places.fetch_add(1, Ordering::Relaxed))
    }

    /// The certificate authority of the registry.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.home.path().join("ca.crt")
    }

    /// Everything that the server has said.
    ///
    /// # Panics
    /// When its log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).expect("the log can be read")
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a temporary folder can be written to");
}

/// What a program says that must succeed.
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("the program can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output.stdout
}

fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|path| path.join(program).is_file())
}

fn free_port() -> u16 {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    address.expect("the loopback has a free port").port()
}

/// A certificate authority, and a certificate of `localhost` by it.
fn make_certificates(folder: &Path) {
    let openssl = |args: &str| {
        let curve = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let mut command = Command::new("openssl");
        command.args(args.split(' ')).current_dir(folder);
        if args.starts_with("req") {
            command.args(curve);
        }
        run(&mut command);
    };
    openssl("req -x509 -days 30 -subj /CN=test -keyout ca.key -out ca.crt");
    openssl("req -subj /CN=localhost -keyout server.key -out server.csr");
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
    write(&folder.join("names"), names.as_bytes());
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
         -extfile names -out server.crt",
    );
}
