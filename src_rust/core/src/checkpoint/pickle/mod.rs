//! Pickle as data: opcodes go out ([`writer`]), and come in as a description ([`parser`]).
//!
//! Neither side ever calls anything. What a name like `torch._utils._rebuild_tensor_v2` means, and whether it may be called,
//! is for the binding to decide.

pub mod parser;
pub mod writer;

/// The opcodes of protocol 2 that torch's files use, and those of later protocols that other writers add.
#[allow(missing_docs)]
pub(crate) mod op {
    pub const PROTO: u8 = 0x80;
    pub const STOP: u8 = b'.';
    pub const MARK: u8 = b'(';
    pub const POP: u8 = b'0';
    pub const POP_MARK: u8 = b'1';
    pub const NONE: u8 = b'N';
    pub const TRUE: u8 = 0x88;
    pub const FALSE: u8 = 0x89;
    pub const INT1: u8 = b'K';
    pub const INT2: u8 = b'M';
    pub const INT4: u8 = b'J';
    pub const LONG1: u8 = 0x8a;
    pub const LONG4: u8 = 0x8b;
    pub const FLOAT: u8 = b'G';
    pub const UNICODE: u8 = b'X';
    pub const SHORT_UNICODE: u8 = 0x8c;
    pub const UNICODE8: u8 = 0x8d;
    pub const BYTES: u8 = b'B';
    pub const SHORT_BYTES: u8 = b'C';
    pub const SHORT_STRING: u8 = b'U';
    pub const EMPTY_LIST: u8 = b']';
    pub const APPEND: u8 = b'a';
    pub const APPENDS: u8 = b'e';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const TUPLE: u8 = b't';
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
    pub const EMPTY_DICT: u8 = b'}';
    pub const SETITEM: u8 = b's';
    pub const SETITEMS: u8 = b'u';
    pub const EMPTY_SET: u8 = 0x8f;
    pub const ADDITEMS: u8 = 0x90;
    pub const FROZENSET: u8 = 0x91;
    pub const GLOBAL: u8 = b'c';
    pub const STACK_GLOBAL: u8 = 0x93;
    pub const REDUCE: u8 = b'R';
    pub const NEWOBJ: u8 = 0x81;
    pub const BUILD: u8 = b'b';
    pub const PERSISTENT: u8 = b'Q';
    pub const PUT1: u8 = b'q';
    pub const PUT4: u8 = b'r';
    pub const GET1: u8 = b'h';
    pub const GET4: u8 = b'j';
    pub const MEMOIZE: u8 = 0x94;
    pub const FRAME: u8 = 0x95;
}

#[cfg(test)]
mod tests;
