//! Handmade pickles: harmful ones, inconsistent ones, and ones that show a single rule.
use std::time::Instant;

use crate::support::{Scratch, archive, dictionary, global, golden, int, legacy, storage, tensor, text, tuple};

/// A tensor of two floats in storage `0`.
fn pair() -> Vec<u8> {
    tensor(storage("0", 2), 0, &[2], &[1])
}

fn values() -> Vec<u8> {
    [1.0f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Both containers around a pickle.
fn both(pickle: &[u8]) -> [Vec<u8>; 2] {
    [archive(pickle, &[("0", &values())]), legacy(pickle, "0", &[1.0, 2.0])]
}

/// The error of a pickle in the zip container.
fn error(pickle: &[u8]) -> String {
    Scratch::new().error(&archive(pickle, &[("0", &values())]))
}

#[test]
fn the_handmade_files_are_read() {
    for file in both(&dictionary("w", &pair())) {
        let section = Scratch::new().read(&file).unwrap().section(None).unwrap();
        assert_eq!(&*section.tensors["w"].bytes(), values());
    }
}

#[test]
fn nothing_is_executed() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("executed");
    let command = tuple(&[text(&format!("touch {}", witness.display()))]);
    let call = [global("os", "system"), command, b"R".to_vec()].concat();
    let pickle = [b"\x80\x02}(".to_vec(), text("evil"), call, text("w"), pair(), b"u.".to_vec()].concat();
    for file in both(&pickle) {
        let section = Scratch::new().read(&file).unwrap().section(None).unwrap();
        assert_eq!(section.tensors.keys().collect::<Vec<_>>(), ["w"]);
    }
    assert!(!witness.exists());
    let error = error(&[b"\x80\x02".to_vec(), global("os", "system"), b")R.".to_vec()].concat());
    assert!(error.contains("an object of `os.system`"), "{error}");
}

#[test]
fn deep_nesting_neither_recurses_nor_hides_the_rest() {
    let start = Instant::now();
    let depth = 1_000_000;
    // Nested lists, then dictionaries, then tuples.
    let lists = [vec![b']'; depth], vec![b'a'; depth - 1]].concat();
    let tuples = [vec![b')'; 1], vec![0x85; depth]].concat();
    for deep in [lists, tuples] {
        let pickle = [b"\x80\x02}(".to_vec(), text("deep"), deep, text("w"), pair(), b"u.".to_vec()].concat();
        for file in both(&pickle) {
            let section = Scratch::new().read(&file).unwrap().section(None).unwrap();
            assert_eq!(section.tensors.len(), 1);
        }
    }
    assert!(start.elapsed().as_secs() < 30);
}

#[test]
fn lengths_beyond_the_file_take_no_memory() {
    let huge = u64::MAX.to_le_bytes();
    let large = (1u64 << 40).to_le_bytes();
    let cases = [
        [b"\x8d".to_vec(), huge.to_vec()].concat(),
        [b"\x8d".to_vec(), large.to_vec()].concat(),
        [b"\x8e".to_vec(), huge.to_vec()].concat(),
        [b"\x96".to_vec(), large.to_vec()].concat(),
        [b"\x95".to_vec(), huge.to_vec()].concat(),
        b"X\xff\xff\xff\xff".to_vec(),
        b"B\xff\xff\xff\xff".to_vec(),
        b"\x8b\xff\xff\xff\x7f".to_vec(),
    ];
    for case in cases {
        let pickle = [b"\x80\x04", &case[..], b"."].concat();
        let message = error(&pickle);
        assert!(message.contains("was the download cut short?"), "{message}");
    }
    let message = error(b"\x80\x02\x8b\xff\xff\xff\xff.");
    assert!(message.contains("a negative length (byte 2 of its pickle)"), "{message}");
}

#[test]
fn a_broken_program_is_refused_with_its_place() {
    let cases: [(&[u8], &str); 17] = [
        (b"\x80\x06N.", "pickle protocol 6; only 2 to 5 are supported (byte 0"),
        (b"\x80\x02.", "needs more values than there are (byte 2"),
        (b"\x80\x02R.", "needs more values"),
        (b"\x80\x02N\x87.", "needs more values"),
        (b"\x80\x02N(\x85.", "needs more values"),
        (b"\x80\x02Nt.", "an end without its MARK (byte 3"),
        (b"\x80\x021.", "an end without its MARK"),
        (b"\x80\x02h\x05.", "memo entry 5 is used before it is set"),
        (b"\x80\x02q\x00.", "needs more values"),
        (b"\x80\x02}(NNNu.", "a key without a value"),
        (b"\x80\x02]NNs.", "keys for a value that is not a dictionary"),
        (b"\x80\x02}Na.", "elements for a value that is not a list"),
        (b"\x80\x02cos\nsystem\nNR.", "arguments that are not a tuple"),
        (b"\x80\x02NNb.", "a state for a value that has none"),
        (b"\x80\x02NQ.", "a persistent id that is not a tuple"),
        (b"\x80\x02I1\n.", "opcode 0x49 INT is not used by torch.save (byte 2"),
        (b"\x80\x02\xff.", "opcode 0xff does not exist (byte 2"),
    ];
    for (pickle, part) in cases {
        let message = error(pickle);
        assert!(message.contains(part), "{pickle:?}: {message}");
    }
}

#[test]
fn values_that_hold_themselves_are_read_once() {
    // A list and a dictionary that contain themselves; an object that is its own state and the argument of its own
    // class.
    let own_list = b"]q\x00h\x00a".to_vec();
    let own_dict = [b"}q\x01".to_vec(), text("x"), b"h\x01s".to_vec()].concat();
    let own_state = [global("a", "B"), b")\x81q\x02h\x02b".to_vec()].concat();
    let pickle = [
        b"\x80\x02}(".to_vec(),
        [text("a"), own_list, text("b"), own_dict, text("c"), own_state].concat(),
        [text("w"), pair(), b"u.".to_vec()].concat(),
    ]
    .concat();
    for file in both(&pickle) {
        assert_eq!(Scratch::new().read(&file).unwrap().section(None).unwrap().tensors.len(), 1);
    }
}

#[test]
fn a_call_that_names_itself_as_its_argument_ends() {
    let rebuild = global("torch._tensor", "_rebuild_from_type_v2");
    let pickle =
        [b"\x80\x02".to_vec(), rebuild, b"q\x00]q\x01(h\x00Nh\x01Ne0".to_vec(), b"h\x00(h\x00Nh\x01NtR.".to_vec()]
            .concat();
    let message = error(&pickle);
    assert!(message.contains("takes more than"), "{message}");
}

/// Opcodes that push a module with those `_modules`.
fn module(children: &[u8]) -> Vec<u8> {
    let state =
        [b"}(".to_vec(), text("_parameters"), b"}".to_vec(), text("w"), pair(), b"s".to_vec(), text("_modules")]
            .concat();
    [global("m", "M"), b")\x81".to_vec(), state, children.to_vec(), b"ub".to_vec()].concat()
}

#[test]
fn a_module_in_itself_is_refused() {
    let circle = [
        global("m", "M"),
        b")\x81q\x09}(".to_vec(),
        text("_parameters"),
        b"}".to_vec(),
        text("_modules"),
        b"}".to_vec(),
    ]
    .concat();
    let pickle = [b"\x80\x02".to_vec(), circle, text("x"), b"h\x09sub.".to_vec()].concat();
    let message = error(&pickle);
    assert!(message.contains("nested deeper than 64, or in a cycle"), "{message}");
}

#[test]
fn modules_that_double_at_every_level_are_refused_soon() {
    let start = Instant::now();
    // Each level refers to the one below it twice: 2^40 tensors.
    let mut nested = module(b"}");
    for _ in 0..40 {
        let children = [b"}(".to_vec(), text("a"), nested, b"q\x05".to_vec(), text("b"), b"h\x05u".to_vec()].concat();
        nested = module(&children);
    }
    let message = error(&[b"\x80\x02".to_vec(), nested, b".".to_vec()].concat());
    assert!(message.contains("expand to more than 32 times its size"), "{message}");
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn dictionaries_that_double_at_every_level_are_listed_once() {
    let mut nested = [b"}".to_vec(), text("w"), pair(), b"s".to_vec()].concat();
    for _ in 0..40 {
        nested = [b"}(".to_vec(), text("a"), nested, b"q\x05".to_vec(), text("b"), b"h\x05u".to_vec()].concat();
    }
    let file = Scratch::new()
        .read(&archive(&[b"\x80\x02".to_vec(), nested, b".".to_vec()].concat(), &[("0", &values())]))
        .unwrap();
    assert_eq!(file.sections().len(), 2);
    assert!(file.section(None).unwrap().tensors.contains_key("w"));
}

#[test]
fn copies_of_copies_are_refused_soon() {
    // OrderedDict(list) of a memoised list of pairs, many times.
    let pairs = [b"](".to_vec(), b"NN\x86".repeat(20_000), b"e\x85q\x00".to_vec()].concat();
    let copy = [global("collections", "OrderedDict"), b"q\x01".to_vec()].concat();
    let pickle = [b"\x80\x02".to_vec(), pairs, copy, b"h\x01h\x00R0".repeat(20_000), b".".to_vec()].concat();
    let message = error(&pickle);
    assert!(message.contains("takes more than"), "{message}");
}

#[test]
fn an_expanded_tensor_may_not_fill_the_memory() {
    let message = error(&dictionary("w", &tensor(storage("0", 2), 0, &[1 << 40], &[0])));
    assert!(message.contains("expand to more than"), "{message}");
    // Many names of one large tensor are counted separately.
    let large = tensor(storage("0", 2), 0, &[1 << 21], &[0]);
    let again = [
        text("x"),
        large,
        b"q\x00".to_vec(),
        (0..20).flat_map(|i| [text(&i.to_string()), b"h\x00".to_vec()].concat()).collect(),
    ]
    .concat();
    let message = error(&[b"\x80\x02}(".to_vec(), again, b"u.".to_vec()].concat());
    assert!(message.contains("expand to more than"), "{message}");
}

#[test]
fn a_tensor_outside_its_storage_is_refused() {
    let cases = [
        (tensor(storage("0", 2), 0, &[3], &[1]), "exceeds its storage of 2 elements"),
        (tensor(storage("0", 2), 1, &[2], &[1]), "exceeds its storage of 2 elements"),
        (tensor(storage("0", 2), 2, &[], &[]), "exceeds its storage of 2 elements"),
        (tensor(storage("0", 2), i64::MAX, &[2, 2], &[i64::MAX, i64::MAX]), "exceeds its storage of 2 elements"),
        (tensor(storage("0", 2), 0, &[i64::MAX, i64::MAX], &[0, 0]), "has too many elements"),
        (tensor(storage("0", 2), 0, &[i64::MAX, i64::MAX, 0], &[0, 0, 0]), "has too many elements"),
        (tensor(storage("0", 2), 0, &[2], &[1, 1]), "1 dimensions and 2 strides"),
        (tensor(storage("0", 2), 0, &[2], &[-1]), "its strides are not a list of counts"),
        (tensor(storage("0", 2), 0, &[-2], &[1]), "its shape is not a list of sizes"),
        (tensor(storage("0", 2), -1, &[2], &[1]), "its offset is not a count of elements"),
        (tensor(storage("0", 2), 0, &[1; 65], &[1; 65]), "its shape is not a list of sizes"),
        (tensor(b"N".to_vec(), 0, &[2], &[1]), "its storage is not in the file"),
    ];
    for (tensor, part) in cases {
        let message = error(&dictionary("w", &tensor));
        assert!(message.contains("tensor `w`: ") && message.contains(part), "{message}");
    }
}

#[test]
fn an_empty_tensor_needs_no_elements() {
    let pickle = dictionary("w", &tensor(storage("0", 2), 77, &[0, 1 << 40], &[1 << 40, 1]));
    let file = Scratch::new().read(&archive(&pickle, &[("0", &values())])).unwrap();
    let section = file.section(None).unwrap();
    assert_eq!(section.tensors["w"].shape, [0, 1 << 40]);
    assert!(section.tensors["w"].bytes().is_empty());
}

#[test]
fn storages_that_contradict_themselves_are_refused() {
    let two_sizes = [text("a"), pair(), text("b"), tensor(storage("0", 3), 0, &[2], &[1])].concat();
    let message = error(&[b"\x80\x02}(".to_vec(), two_sizes, b"u.".to_vec()].concat());
    assert!(message.contains("storage `0` has two types or sizes"), "{message}");

    let scratch = Scratch::new();
    let message = scratch.error(&archive(&dictionary("w", &pair()), &[("0", &[0; 12])]));
    assert!(message.contains("record data/0 has 12 bytes instead of 8"), "{message}");
    let message = scratch.error(&archive(&dictionary("w", &pair()), &[("1", &[0; 8])]));
    assert!(message.contains("the archive has no record data/0"), "{message}");
    let message = scratch.error(&legacy(&dictionary("w", &pair()), "0", &[0.0; 3]));
    assert!(message.contains("storage `0` has 3 elements instead of 2"), "{message}");
    let message = scratch.error(&legacy(&dictionary("w", &pair()), "1", &[0.0; 2]));
    assert!(message.contains("lists a storage that no tensor refers to"), "{message}");
    let message = scratch.error(&legacy(&dictionary("w", &pair()), "", &[]));
    assert!(message.contains("one of its storages is not in the file"), "{message}");
    let large = dictionary("w", &tensor(storage("0", i64::MAX), 0, &[2], &[1]));
    let message = scratch.error(&archive(&large, &[("0", &[0; 8])]));
    assert!(message.contains("not a count of elements"), "{message}");
    let large = dictionary("w", &tensor(storage("0", 1 << 50), 0, &[2], &[1]));
    let message = scratch.error(&archive(&large, &[("0", &[0; 8])]));
    assert!(message.contains("expand to more than"), "{message}");
}

#[test]
fn python_2_and_old_pytorch_are_understood() {
    // OrderedDict([[key, value]]), bytes as keys, Parameter(data) with a state, a CUDA storage.
    let cuda = [
        tuple(&[text("storage"), global("torch.cuda", "FloatStorage"), text("0"), text("cuda:0"), int(2)]),
        b"Q".to_vec(),
    ]
    .concat();
    let sizes = [tuple(&[int(2)]), tuple(&[int(1)])].concat();
    let data = [global("torch._utils", "_rebuild_tensor"), tuple(&[cuda, int(0), sizes]), b"R".to_vec()].concat();
    let parameter = [global("torch.nn.parameter", "Parameter"), data, b"\x85R(\x88\x89Ntb".to_vec()].concat();
    let entry = [b"](U\x01w".to_vec(), parameter, b"ee".to_vec()].concat();
    let pickle =
        [b"\x80\x02".to_vec(), global("collections", "OrderedDict"), b"](".to_vec(), entry, b"\x85R.".to_vec()]
            .concat();
    for file in both(&pickle) {
        let section = Scratch::new().read(&file).unwrap().section(None).unwrap();
        assert_eq!(&*section.tensors["w"].bytes(), values());
    }
}

#[test]
fn two_records_of_one_name_are_refused() {
    let mut file = archive(&dictionary("w", &pair()), &[("0", &values()), ("1", &values())]);
    for at in 0..file.len() - 8 {
        if file[at..].starts_with(b"x/data/1") {
            file[at + 7] = b'0';
        }
    }
    let message = Scratch::new().error(&file);
    assert!(message.contains("two records of the archive have the same name"), "{message}");
}

#[test]
fn a_compressed_bomb_is_refused() {
    let bytes = std::fs::read(golden("deflated.pt")).unwrap();
    assert!(Scratch::new().exhaust(&bytes));
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file(
        "x/data.pkl",
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated),
    )
    .unwrap();
    let piece = vec![b'N'; 1 << 20];
    for _ in 0..65 {
        std::io::Write::write_all(&mut zip, &piece).unwrap();
    }
    let message = Scratch::new().error(&zip.finish().unwrap().into_inner());
    assert!(message.contains("claims 68157440 bytes"), "{message}");
}
