//! Pickles of plain values, valid and broken.
use heterodyne_pickle::plain::{self, Value};

use crate::support::Scratch;

fn read(bytes: &[u8]) -> Result<Value, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch");
    std::fs::write(&path, bytes).unwrap();
    plain::read(&path).map_err(|e| e.fault.to_string())
}

#[test]
fn values_are_read_as_they_are() {
    // {"a": [1, -2, "x"], b"k": (None, b"\xff"), 3: 4}: the entry whose key is a number is omitted.
    let text = b"\x80\x03}(X\x01\0\0\0a](K\x01J\xfe\xff\xff\xffX\x01\0\0\0xeC\x01kNC\x01\xff\x86K\x03K\x04u.";
    let value = read(text).unwrap();
    assert_eq!(
        value.get("a").unwrap().list().unwrap(),
        [Value::Integer(1), Value::Integer(-2), Value::Text("x".to_owned())]
    );
    assert_eq!(value.get("k").unwrap().list().unwrap(), [Value::Other, Value::Bytes(vec![0xFF])]);
    assert!(matches!(&value, Value::Table(entries) if entries.len() == 2));
}

#[test]
fn circles_bombs_and_cut_files_end_with_an_error() {
    // A list that contains itself; lists of lists, each twice the one before; a length beyond the end.
    assert!(read(b"\x80\x02]q\0h\0a.").unwrap_err().contains("nested deeper"));
    let mut doubling = b"\x80\x02]q\0K\x01a".to_vec();
    for level in 1..31u8 {
        doubling.extend([b"]q".as_slice(), &[level], b"(h", &[level - 1], b"h", &[level - 1], b"e"].concat());
    }
    doubling.push(b'.');
    assert!(read(&doubling).unwrap_err().contains("times its size"));
    assert!(read(b"\x80\x03B\xff\xff\xff\x7f.").unwrap_err().contains("cut short"));
    assert!(read(b"").unwrap_err().contains("empty"));
    // A call is only a name.
    assert_eq!(read(b"\x80\x02cposix\nsystem\nU\x04true\x85R.").unwrap(), Value::Other);
    assert_eq!(read(b"\x80\x02cbuiltins\nbytes\nq\0)R.").unwrap(), Value::Bytes(Vec::new()));
    let scratch = Scratch::new();
    assert!(scratch.error(b"\x80\x02]q\0h\0a.").contains("did not write"));
}
