//! A Hub on the loopback device: it answers the client's requests like the real one, with the faults of a network.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const OLDER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// What goes wrong with the bodies of large files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// The connection closes after this many bytes of a body.
    Cut(usize),
    /// This many bytes of a body, then nothing, with the connection open.
    Hang(usize),
    /// A request for metadata is never answered.
    Silent,
    /// A whole body, although a range from the middle was requested.
    NoRanges,
    /// Other bytes of the same length.
    OtherBytes,
    /// Chunks without an end.
    Endless,
    /// A size in the metadata that differs from the body's.
    Larger,
    /// This status for the file.
    Status(u16),
    /// This status for the list of files.
    ListStatus(u16),
    /// This text for the list of files.
    ListText(&'static str),
    /// An etag that is a path.
    EtagPath,
    /// An etag marked weak.
    EtagWeak,
    /// No etag.
    EtagNone,
    /// A redirection without a target.
    NoLocation,
    /// Another commit in the metadata.
    OtherCommit,
}

/// A file of the repository.
#[derive(Clone)]
pub struct Served {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// Stored outside git: its etag is its SHA-256 and it comes from another host.
    pub large: bool,
}

/// The repository `timm/tiny`, and its server's state.
struct State {
    files: Vec<Served>,
    token: Option<&'static str>,
    fault: Fault,
    requests: Vec<Request>,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// First byte of the requested range, and whether the range is longer than the one byte of a request for metadata.
    fn range(&self) -> Option<(usize, bool)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last != "0"))
    }
}

pub struct Hub {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub fn new(files: &[Served]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { files: files.to_vec(), token: None, fault: Fault::None, requests: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || {
                    // A client that disconnects is not a failure of the server.
                    let _ = converse(stream, port, &shared);
                });
            }
        });
        Self { port, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, fault: Fault) {
        self.state.lock().unwrap().fault = fault;
    }

    pub fn demand(&self, token: &'static str) {
        self.state.lock().unwrap().token = Some(token);
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The etag of a file: its SHA-256, or (for small ones) 40 digits as git's hashes have.
pub fn etag(file: &Served) -> String {
    let hash = sha256(&file.bytes);
    if file.large { hash } else { hash[..40].to_owned() }
}

fn converse(stream: TcpStream, port: u16, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    let Some(request) = read_request(&mut reader)? else { return Ok(()) };
    let (files, token, fault) = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        (state.files.clone(), state.token, state.fault)
    };
    let allowed = token.is_none_or(|token| request.header("authorization") == Some(&format!("Bearer {token}")));
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match parts[..] {
        ["api", "models", "timm", "tiny", "revision", revision] => match (fault, revision) {
            (Fault::ListStatus(status), _) => head(&mut out, status, &[], Some(0)),
            (Fault::ListText(text), _) => {
                head(&mut out, 200, &[("Content-Type", "application/json")], Some(text.len()))?;
                out.write_all(text.as_bytes())
            }
            _ if !allowed => head(&mut out, 401, &[("X-Error-Code", "RepoNotFound")], Some(0)),
            (_, "main" | "v1" | "a%2Fb" | COMMIT | OLDER) => {
                list(&mut out, &files, if revision == OLDER { OLDER } else { COMMIT })
            }
            _ => head(&mut out, 404, &[("X-Error-Code", "RevisionNotFound")], Some(0)),
        },
        ["api", ..] => head(&mut out, 401, &[("X-Error-Code", "RepoNotFound")], Some(0)),
        ["timm", "tiny", "resolve", revision, name] => match files.iter().find(|file| file.name == name) {
            _ if !allowed => head(&mut out, 401, &[("X-Error-Code", "GatedRepo")], Some(0)),
            Some(_) if fault == Fault::Silent => silence(),
            Some(file) => resolve(&mut out, &request, file, revision, port, fault),
            None => head(&mut out, 404, &[("X-Error-Code", "EntryNotFound"), ("X-Repo-Commit", COMMIT)], Some(0)),
        },
        // The other host, which serves signed addresses but no repositories.
        ["large", hash] => match files.iter().find(|file| etag(file) == hash) {
            Some(file) => body(&mut out, &request, file, &[("ETag", "\"of-the-store\"")], fault),
            None => head(&mut out, 404, &[], Some(0)),
        },
        _ => head(&mut out, 404, &[], Some(0)),
    }?;
    out.shutdown(Shutdown::Write)
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.by_ref().take(1 << 16).read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => return Ok(Some(Request { method, path, headers })),
        }
    }
}

fn list(out: &mut TcpStream, files: &[Served], commit: &str) -> std::io::Result<()> {
    let siblings: Vec<String> = files.iter().map(|file| format!("{{\"rfilename\":\"{}\"}}", file.name)).collect();
    let text = format!(
        "{{\"id\":\"timm/tiny\",\"private\":false,\"sha\":\"{commit}\",\"siblings\":[{}]}}",
        siblings.join(",")
    );
    head(out, 200, &[("Content-Type", "application/json"), ("X-Repo-Commit", commit)], Some(text.len()))?;
    out.write_all(text.as_bytes())
}

fn resolve(
    out: &mut TcpStream,
    request: &Request,
    file: &Served,
    revision: &str,
    port: u16,
    fault: Fault,
) -> std::io::Result<()> {
    let commit = match fault {
        Fault::OtherCommit => "ffffffffffffffffffffffffffffffffffffffff",
        _ if revision == OLDER => OLDER,
        _ => COMMIT,
    };
    let mut tag = format!("\"{}\"", etag(file));
    match fault {
        Fault::Status(status) => return head(out, status, &[], Some(0)),
        Fault::EtagPath => tag = "\"../../../../escaped\"".into(),
        Fault::EtagWeak => tag = format!("W/{tag}"),
        _ => {}
    }
    let mut headers = vec![("X-Repo-Commit", commit)];
    if fault != Fault::EtagNone {
        headers.push(("ETag", &tag));
    }
    if !file.large {
        return body(out, request, file, &headers, fault);
    }
    let (size, location) = (file.bytes.len().to_string(), format!("http://localhost:{port}/large/{}", etag(file)));
    let own = "\"of-the-page\"".to_owned();
    headers.retain(|(name, _)| *name != "ETag");
    headers.push(("ETag", &own));
    headers.push(("X-Linked-ETag", &tag));
    headers.push(("X-Linked-Size", &size));
    if fault != Fault::NoLocation {
        headers.push(("Location", &location));
    }
    head(out, 302, &headers, Some(0))
}

fn body(
    out: &mut TcpStream,
    request: &Request,
    file: &Served,
    headers: &[(&str, &str)],
    fault: Fault,
) -> std::io::Result<()> {
    // Faults affect only the bodies of large files.
    let (first, wanted) = request.range().unwrap_or((0, true));
    let fault = if file.large { fault } else { Fault::None };
    let total = file.bytes.len();
    let promised = if fault == Fault::Larger { total + 1 } else { total };
    let mut headers = headers.to_vec();
    headers.push(("Accept-Ranges", "bytes"));
    if !wanted {
        let range = format!("bytes 0-0/{promised}");
        headers.push(("Content-Range", &range));
        head(out, 206, &headers, Some(1))?;
        return out.write_all(&file.bytes[..1]);
    }
    if first >= total {
        return head(out, 416, &headers, Some(0));
    }
    let first = if fault == Fault::NoRanges { 0 } else { first };
    let bytes = if fault == Fault::OtherBytes { vec![b'?'; total - first] } else { file.bytes[first..].to_vec() };
    let range = format!("bytes {first}-{}/{total}", total - 1);
    if request.header("range").is_some() && fault != Fault::NoRanges {
        headers.push(("Content-Range", &range));
    }
    let status = if headers.iter().any(|(name, _)| *name == "Content-Range") { 206 } else { 200 };
    if fault == Fault::Endless {
        headers.push(("Transfer-Encoding", "chunked"));
        head(out, status, &headers, None)?;
        loop {
            out.write_all(b"1000\r\n")?;
            out.write_all(&[b'x'; 0x1000])?;
            out.write_all(b"\r\n")?;
        }
    }
    head(out, status, &headers, Some(bytes.len()))?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match fault {
        Fault::Cut(n) => out.write_all(&bytes[..n.min(bytes.len())]),
        Fault::Hang(n) => {
            out.write_all(&bytes[..n.min(bytes.len())])?;
            silence()
        }
        _ => out.write_all(&bytes),
    }
}

/// Longer than any test waits.
fn silence() -> std::io::Result<()> {
    thread::sleep(Duration::from_secs(30));
    Ok(())
}

fn head(out: &mut TcpStream, status: u16, headers: &[(&str, &str)], length: Option<usize>) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length {
        text.push_str(&format!("Content-Length: {length}\r\n"));
    }
    text.push_str("\r\n");
    out.write_all(text.as_bytes())
}
