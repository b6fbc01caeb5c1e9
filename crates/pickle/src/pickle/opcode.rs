//! The opcodes of the pickle protocols 2 to 5, as in Python's `pickletools`.

macro_rules! opcodes {
    ($($name:ident = $code:expr),* $(,)?) => {
        $(pub const $name: u8 = $code;)*
    };
}

opcodes! {
    MARK = b'(', STOP = b'.', POP = b'0', POP_MARK = b'1', DUP = b'2', PROTO = 0x80, FRAME = 0x95,
    NONE = b'N', NEWTRUE = 0x88, NEWFALSE = 0x89,
    BININT = b'J', BININT1 = b'K', BININT2 = b'M', LONG1 = 0x8a, LONG4 = 0x8b, BINFLOAT = b'G',
    SHORT_BINUNICODE = 0x8c, BINUNICODE = b'X', BINUNICODE8 = 0x8d,
    SHORT_BINSTRING = b'U', BINSTRING = b'T', SHORT_BINBYTES = b'C', BINBYTES = b'B', BINBYTES8 = 0x8e,
    BYTEARRAY8 = 0x96,
    EMPTY_TUPLE = b')', TUPLE = b't', TUPLE1 = 0x85, TUPLE2 = 0x86, TUPLE3 = 0x87,
    EMPTY_LIST = b']', APPEND = b'a', APPENDS = b'e',
    EMPTY_DICT = b'}', SETITEM = b's', SETITEMS = b'u',
    EMPTY_SET = 0x8f, ADDITEMS = 0x90, FROZENSET = 0x91,
    BINPUT = b'q', LONG_BINPUT = b'r', MEMOIZE = 0x94, BINGET = b'h', LONG_BINGET = b'j',
    GLOBAL = b'c', STACK_GLOBAL = 0x93, REDUCE = b'R', NEWOBJ = 0x81, NEWOBJ_EX = 0x92, BUILD = b'b', BINPERSID = b'Q',
}

/// Python's opcodes that weights files do not use: text forms of protocols 0 and 1, registered extensions, buffers
/// outside the file.
const OTHERS: [(u8, &str); 19] = [
    (b'I', "INT"),
    (b'L', "LONG"),
    (b'F', "FLOAT"),
    (b'S', "STRING"),
    (b'V', "UNICODE"),
    (b'd', "DICT"),
    (b'l', "LIST"),
    (b'g', "GET"),
    (b'p', "PUT"),
    (b'P', "PERSID"),
    (b'i', "INST"),
    (b'o', "OBJ"),
    (0x82, "EXT1"),
    (0x83, "EXT2"),
    (0x84, "EXT4"),
    (0x97, "NEXT_BUFFER"),
    (0x98, "READONLY_BUFFER"),
    (b'\0', "(zero byte)"),
    (b'\n', "(newline)"),
];

/// Describes an opcode that the machine does not support.
pub fn unknown(code: u8) -> String {
    match OTHERS.iter().find(|(other, _)| *other == code) {
        Some((_, name)) => format!("opcode {code:#04x} {name} is not used by torch.save"),
        None => format!("opcode {code:#04x} does not exist"),
    }
}
