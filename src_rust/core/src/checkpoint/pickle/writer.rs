//! Emits opcodes of protocol 2, those that `torch.load(weights_only=True)` reads.

use super::op;

/// A pickle that is being written. The caller keeps the order of operations right; see CPython's `pickletools`.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    memo: u32,
}

impl Writer {
    /// Begins a pickle.
    pub fn new() -> Self {
        let mut out = Vec::with_capacity(4096);
        out.extend_from_slice(&[op::PROTO, 2]);
        Self { out, memo: 0 }
    }

    /// Ends the pickle, and gives its bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(op::STOP);
        self.out
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Was nothing written?
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// `None`.
    pub fn none(&mut self) {
        self.out.push(op::NONE);
    }

    /// `True` or `False`.
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { op::TRUE } else { op::FALSE });
    }

    /// An integer.
    pub fn int(&mut self, value: i64) {
        if let Ok(small) = u8::try_from(value) {
            self.out.extend_from_slice(&[op::INT1, small]);
        } else if let Ok(medium) = u16::try_from(value) {
            self.out.push(op::INT2);
            self.out.extend_from_slice(&medium.to_le_bytes());
        } else if let Ok(large) = i32::try_from(value) {
            self.out.push(op::INT4);
            self.out.extend_from_slice(&large.to_le_bytes());
        } else {
            self.long(&value.to_le_bytes());
        }
    }

    /// An integer of any size, as two's complement, lowest byte first. False if it is too large for the format.
    pub fn long(&mut self, bytes: &[u8]) -> bool {
        let Ok(length) = u8::try_from(bytes.len()) else { return false };
        self.out.extend_from_slice(&[op::LONG1, length]);
        self.out.extend_from_slice(bytes);
        true
    }

    /// A float.
    pub fn float(&mut self, value: f64) {
        self.out.push(op::FLOAT);
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A text, in UTF-8 (with lone surrogates as Python encodes them). False if it is too long for the format.
    pub fn text(&mut self, utf8: &[u8]) -> bool {
        let Ok(length) = u32::try_from(utf8.len()) else { return false };
        self.out.push(op::UNICODE);
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(utf8);
        true
    }

    /// A name to be found in a module.
    pub fn global(&mut self, module: &str, name: &str) {
        self.out.push(op::GLOBAL);
        for part in [module, name] {
            self.out.extend_from_slice(part.as_bytes());
            self.out.push(b'\n');
        }
    }

    /// Remembers what lies on top of the stack, and gives the number to [`Writer::get`] it by.
    pub fn put(&mut self) -> u32 {
        let number = self.memo;
        self.memo += 1;
        self.numbered(op::PUT1, op::PUT4, number);
        number
    }

    /// What was remembered.
    pub fn get(&mut self, number: u32) {
        self.numbered(op::GET1, op::GET4, number);
    }

    fn numbered(&mut self, short: u8, long: u8, number: u32) {
        if let Ok(small) = u8::try_from(number) {
            self.out.extend_from_slice(&[short, small]);
        } else {
            self.out.push(long);
            self.out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Marks where the parts of something begin.
    pub fn mark(&mut self) {
        self.out.push(op::MARK);
    }

    /// The empty list.
    pub fn empty_list(&mut self) {
        self.out.push(op::EMPTY_LIST);
    }

    /// The empty dict.
    pub fn empty_dict(&mut self) {
        self.out.push(op::EMPTY_DICT);
    }

    /// Adds everything above the mark to the list below it.
    pub fn appends(&mut self) {
        self.out.push(op::APPENDS);
    }

    /// Adds the pairs above the mark to the dict below it.
    pub fn setitems(&mut self) {
        self.out.push(op::SETITEMS);
    }

    /// A tuple of the top `length` values; above three they have to lie above a mark.
    pub fn tuple(&mut self, length: usize) {
        self.out.push(match length {
            0 => op::EMPTY_TUPLE,
            1 => op::TUPLE1,
            2 => op::TUPLE2,
            3 => op::TUPLE3,
            _ => op::TUPLE,
        });
    }

    /// Calls what lies below with the tuple on top.
    pub fn reduce(&mut self) {
        self.out.push(op::REDUCE);
    }

    /// Makes an object of the class below with the tuple on top, without its `__init__`.
    pub fn newobj(&mut self) {
        self.out.push(op::NEWOBJ);
    }

    /// Gives the object below the state on top.
    pub fn build(&mut self) {
        self.out.push(op::BUILD);
    }

    /// The object that the tuple on top stands for.
    pub fn persistent(&mut self) {
        self.out.push(op::PERSISTENT);
    }
}
