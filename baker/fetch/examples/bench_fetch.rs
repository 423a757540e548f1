//! Times downloads of large files from a server on the loopback, and what each could be held by:
//! `cargo run --release -p baker-fetch --example bench_fetch -- empty-folder [MiB] [files]`
//!
//! Server and client share the CPUs, so the rate of plain reading is the ceiling here.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use baker_fetch::{FetchOptions, Sources, Store};
use baker_model::lock::{GuestLock, LOCK_VERSION, PackageLock, PackageRole};
use baker_model::{Digest, Digester, Interrupt, Lock, Silent};

/// Bytes that the server repeats.
const PIECE: usize = 1 << 20;

#[expect(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, counts @ ..] = arguments.as_slice() else {
        return Err("usage: bench_fetch <empty folder> [MiB] [files]".into());
    };
    let count = |place: usize, usual: u32| counts.get(place).map_or(Ok(usual), |n| n.parse());
    let (mib, files) = (count(0, 1_024)?, count(1, 4)?);
    let size = u64::from(mib) << 20;
    let address = serve(mib)?;
    let rate = |what: &str, files: u32, begin: Instant| {
        let seconds = begin.elapsed().as_secs_f64();
        let rate = f64::from(mib) * f64::from(files) * 1.048_576 / seconds;
        println!("{what:<44} {rate:>7.0} MB/s  ({seconds:.2} s)");
    };
    let begin = Instant::now();
    let sha256 = digest(mib, 0);
    rate("SHA-256 on one core", 1, begin);
    let begin = Instant::now();
    read(address)?;
    rate("the server, read and thrown away", 1, begin);
    let begin = Instant::now();
    write(&Path::new(folder).join("plain"), mib)?;
    rate("written to a file and synced", 1, begin);

    let package = |number: u32| PackageLock {
        name: format!("large{number}"),
        version: "1".into(),
        architecture: "all".into(),
        role: PackageRole::Root,
        archive: "debian".into(),
        path: format!("pool/{number}"),
        size,
        sha256: match number {
            0 => sha256,
            number => digest(mib, number),
        },
    };
    let packages: Vec<PackageLock> = (0..files).map(package).collect();
    for (what, packages) in [("one file", &packages[..1]), ("all files", &packages[..])] {
        let store = Store::open(&Path::new(folder).join(what))?;
        let lock = lock(packages);
        let sources = Sources::default().with_mirror(&format!("http://{address}"))?;
        let options = FetchOptions::default();
        let begin = Instant::now();
        baker_fetch::fetch(&lock, &sources, &store, &Silent, &Interrupt::new(), options)?;
        let files = u32::try_from(packages.len())?;
        rate(&format!("fetched into a store, {what}"), files, begin);
    }
    Ok(())
}

fn lock(packages: &[PackageLock]) -> Lock {
    Lock {
        version: LOCK_VERSION,
        recipe: Digest::of(b""),
        epoch: 0,
        guest: GuestLock {
            size: 0,
            sha256: Digest::of(b""),
        },
        files: Vec::new(),
        archives: Vec::new(),
        packages: packages.to_vec(),
        layers: Vec::new(),
        stages: Vec::new(),
    }
}

/// What file `number` is made of.
fn piece(number: u32) -> Vec<u8> {
    let mut state = number.wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(PIECE).collect()
}

fn digest(mib: u32, number: u32) -> Digest {
    let piece = piece(number);
    let mut digester = Digester::new();
    for _ in 0..mib {
        digester.update(&piece);
    }
    digester.finish()
}

fn write(path: &Path, mib: u32) -> io::Result<()> {
    let piece = piece(0);
    let mut file = std::fs::File::create(path)?;
    for _ in 0..mib {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    std::fs::remove_file(path)
}

fn read(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /pool/0 HTTP/1.1\r\nConnection: close\r\n\r\n")?;
    let mut buffer = vec![0; PIECE];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

fn serve(mib: u32) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is no failure of the server.
            std::thread::spawn(move || drop(converse(&stream, mib)));
        }
    });
    Ok(address)
}

fn converse(mut stream: &TcpStream, mib: u32) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut request, mut last) = (String::new(), false);
        while !request.ends_with("\r\n\r\n") {
            let before = request.len();
            if reader.read_line(&mut request)? == 0 {
                return Ok(());
            }
            last |= request[before..].eq_ignore_ascii_case("connection: close\r\n");
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let number = path.rsplit('/').next().and_then(|name| name.parse().ok());
        let piece = piece(number.unwrap_or_default());
        let size = u64::from(mib) << 20;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
        for _ in 0..mib {
            stream.write_all(&piece)?;
        }
        if last {
            return Ok(());
        }
    }
}
