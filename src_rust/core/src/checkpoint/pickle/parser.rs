//! Turns a pickle into a description: nodes that name what would be made and called, and nothing made or called.
//!
//! Works on any bytes whatever: a stack that underflows, an index or a length beyond what there is, an unknown opcode are
//! errors with their place. Every opcode makes at most one node, so memory stays within a multiple of the input.

use std::collections::HashMap;

use super::op;
use crate::error::{Error, Result};

/// Number of a node in [`Pickle::nodes`].
pub type Id = u32;

/// One value of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// `True`, `False`.
    Bool(bool),
    /// An integer that fits.
    Int(i64),
    /// One that does not: two's complement, lowest byte first.
    Long(Vec<u8>),
    /// A float.
    Float(f64),
    /// A text; UTF-8, in which Python's writers may leave lone surrogates.
    Text(Vec<u8>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Id>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A dict, or a set with its values as keys.
    Dict(Vec<(Id, Id)>),
    /// A set or frozenset.
    Set(Vec<Id>),
    /// A name in a module.
    Global {
        /// The module.
        module: String,
        /// The name.
        name: String,
    },
    /// The result of a call or of `cls.__new__`, with what was done to it afterwards.
    Made(Box<Made>),
    /// What an identifier outside of the pickle stands for; here always a storage.
    Persistent(Id),
}

/// An object that a pickle describes.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// What is called, or the class.
    pub callable: Id,
    /// A tuple.
    pub arguments: Id,
    /// `cls.__new__(cls, *arguments)` instead of a call.
    pub new: bool,
    /// What `__setstate__` or `__dict__` gets.
    pub state: Option<Id>,
    /// Pairs that are set on it.
    pub items: Vec<(Id, Id)>,
    /// Values that are appended to it.
    pub appended: Vec<Id>,
}

/// A parsed pickle.
#[derive(Debug, Clone, PartialEq)]
pub struct Pickle {
    /// All values; they refer to each other by number, in circles too where the pickle does.
    pub nodes: Vec<Node>,
    /// The outermost value.
    pub root: Id,
}

impl Pickle {
    /// The node of a number.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// Every name that the pickle refers to, each once, in order: `("torch._utils", "_rebuild_tensor_v2")`.
    pub fn globals(&self) -> Vec<(&str, &str)> {
        let mut found: Vec<(&str, &str)> = Vec::new();
        for node in &self.nodes {
            if let Node::Global { module, name } = node
                && !found.contains(&(module.as_str(), name.as_str()))
            {
                found.push((module, name));
            }
        }
        found
    }
}

/// Parses a whole pickle.
///
/// # Errors
/// [`Error::Damaged`] with the place and what is wrong there.
pub fn parse(bytes: &[u8]) -> Result<Pickle> {
    let mut parser =
        Parser { bytes, at: 0, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    match parser.run() {
        Ok(root) => Ok(Pickle { nodes: parser.nodes, root }),
        Err(why) => Err(Error::Damaged { why: format!("its pickle is damaged at byte {}: {why}", parser.at) }),
    }
}

type Step<T> = std::result::Result<T, String>;

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks that are open.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Parser<'a> {
    fn run(&mut self) -> Step<Id> {
        if self.take(1)? != [op::PROTO] {
            return Err("it does not begin as pickles of protocol 2 and later do".into());
        }
        let protocol = self.byte()?;
        if !(2..=5).contains(&protocol) {
            return Err(format!("unknown protocol {protocol}"));
        }
        loop {
            let code = self.byte()?;
            if code == op::STOP {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Step<()> {
        match code {
            op::NONE => self.push(Node::None),
            op::TRUE => self.push(Node::Bool(true)),
            op::FALSE => self.push(Node::Bool(false)),
            op::INT1 => self.byte().map(|value| self.push(Node::Int(value.into())))?,
            op::INT2 => self.number(2).map(|value| self.push(Node::Int(value as i64)))?,
            op::INT4 => self.number(4).map(|value| self.push(Node::Int(i64::from(value as u32 as i32))))?,
            op::LONG1 => self.long(1)?,
            op::LONG4 => self.long(4)?,
            op::FLOAT => {
                let bits = self.take(8)?.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
                self.push(Node::Float(f64::from_bits(bits)));
            }
            op::UNICODE => self.sized(4, Node::Text)?,
            op::SHORT_UNICODE => self.sized(1, Node::Text)?,
            op::UNICODE8 => self.sized(8, Node::Text)?,
            op::BYTES => self.sized(4, Node::Bytes)?,
            op::SHORT_BYTES | op::SHORT_STRING => self.sized(1, Node::Bytes)?,
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global { module, name });
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.push(Node::Global { module, name });
            }
            op::PERSISTENT => {
                let id = self.pop()?;
                self.push(Node::Persistent(id));
            }
            op::PUT1 => self.number(1).and_then(|number| self.put(number as u32))?,
            op::PUT4 => self.number(4).and_then(|number| self.put(number as u32))?,
            op::MEMOIZE => self.put(self.memo.len() as u32)?,
            op::GET1 => self.number(1).and_then(|number| self.get(number as u32))?,
            op::GET4 => self.number(4).and_then(|number| self.get(number as u32))?,
            op::FRAME => self.take(8).map(|_| ())?,
            op::POP => self.pop().map(|_| ())?,
            op::POP_MARK => self.above_mark().map(|_| ())?,
            op::MARK => self.marks.push(self.stack.len()),
            _ => self.containers(code)?,
        }
        Ok(())
    }

    fn containers(&mut self, code: u8) -> Step<()> {
        match code {
            op::EMPTY_LIST => self.push(Node::List(Vec::new())),
            op::EMPTY_TUPLE => self.push(Node::Tuple(Vec::new())),
            op::EMPTY_DICT => self.push(Node::Dict(Vec::new())),
            op::EMPTY_SET => self.push(Node::Set(Vec::new())),
            op::TUPLE1 => self.tuple(1)?,
            op::TUPLE2 => self.tuple(2)?,
            op::TUPLE3 => self.tuple(3)?,
            op::TUPLE => {
                let parts = self.above_mark()?;
                self.push(Node::Tuple(parts));
            }
            op::FROZENSET => {
                let parts = self.above_mark()?;
                self.push(Node::Set(parts));
            }
            op::APPEND => {
                let value = self.pop()?;
                self.extend(vec![value])?;
            }
            op::APPENDS => {
                let values = self.above_mark()?;
                self.extend(values)?;
            }
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])?;
            }
            op::SETITEMS => {
                let pairs = self.above_mark()?;
                self.set(pairs)?;
            }
            op::ADDITEMS => {
                let values = self.above_mark()?;
                match self.top()? {
                    Node::Set(set) => set.extend(values),
                    _ => return Err("values are added to something that is no set".into()),
                }
            }
            op::REDUCE => self.make(false)?,
            op::NEWOBJ => self.make(true)?,
            op::BUILD => {
                let state = self.pop()?;
                match self.top()? {
                    Node::Made(made) if made.state.is_none() => made.state = Some(state),
                    _ => return Err("a state is given to something that takes none".into()),
                }
            }
            _ => return Err(format!("unknown opcode {code:#04x}")),
        }
        Ok(())
    }

    fn extend(&mut self, values: Vec<Id>) -> Step<()> {
        match self.top()? {
            Node::List(list) => list.extend(values),
            Node::Made(made) => made.appended.extend(values),
            _ => return Err("values are appended to something that is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, pairs: Vec<Id>) -> Step<()> {
        if !pairs.len().is_multiple_of(2) {
            return Err("a key without a value".into());
        }
        let pairs = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        match self.top()? {
            Node::Dict(dict) => dict.extend(pairs),
            Node::Made(made) => made.items.extend(pairs),
            _ => return Err("keys are set on something that is no dict".into()),
        }
        Ok(())
    }

    fn make(&mut self, new: bool) -> Step<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        if !matches!(self.nodes[arguments as usize], Node::Tuple(_)) {
            return Err("a call whose arguments are no tuple".into());
        }
        let made = Made { callable, arguments, new, state: None, items: Vec::new(), appended: Vec::new() };
        self.push(Node::Made(Box::new(made)));
        Ok(())
    }

    fn tuple(&mut self, length: usize) -> Step<()> {
        let height = self.floor();
        if self.stack.len() < height + length {
            return Err("the stack is too short".into());
        }
        let parts = self.stack.split_off(self.stack.len() - length);
        self.push(Node::Tuple(parts));
        Ok(())
    }

    // ---- stack and memo ----------------------------------------------------------------------------------------------

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len() as Id);
        self.nodes.push(node);
    }

    /// Values below an open mark are out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        if self.stack.len() <= self.floor() {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_text(&mut self) -> Step<String> {
        let id = self.pop()?;
        match &self.nodes[id as usize] {
            Node::Text(text) => String::from_utf8(text.clone()).map_err(|_| "a name that is no text".into()),
            _ => Err("a name that is no text".into()),
        }
    }

    fn top(&mut self) -> Step<&mut Node> {
        if self.stack.len() <= self.floor() {
            return Err("the stack is empty".into());
        }
        let id = self.stack.last().copied().ok_or("the stack is empty")?;
        Ok(&mut self.nodes[id as usize])
    }

    fn above_mark(&mut self) -> Step<Vec<Id>> {
        let height = self.marks.pop().ok_or("there is no mark")?;
        if height > self.stack.len() {
            return Err("the stack is empty".into());
        }
        Ok(self.stack.split_off(height))
    }

    fn put(&mut self, number: u32) -> Step<()> {
        self.top()?;
        if let Some(&id) = self.stack.last() {
            self.memo.insert(number, id);
        }
        Ok(())
    }

    fn get(&mut self, number: u32) -> Step<()> {
        let id = *self.memo.get(&number).ok_or_else(|| format!("nothing is remembered under {number}"))?;
        self.stack.push(id);
        Ok(())
    }

    // ---- bytes -------------------------------------------------------------------------------------------------------

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("{count} bytes are wanted, {} are left", self.bytes.len() - self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Step<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self, width: usize) -> Step<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn sized(&mut self, width: usize, node: impl FnOnce(Vec<u8>) -> Node) -> Step<()> {
        let length = usize::try_from(self.number(width)?).map_err(|_| "a length beyond all memory")?;
        let bytes = self.take(length)?.to_vec();
        self.push(node(bytes));
        Ok(())
    }

    fn long(&mut self, width: usize) -> Step<()> {
        let length = self.number(width)? as usize;
        let bytes = self.take(length)?;
        if bytes.len() > 8 {
            self.push(Node::Long(bytes.to_vec()));
            return Ok(());
        }
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
        let value = bytes.iter().rev().fold(sign, |value: i64, &byte| value << 8 | i64::from(byte));
        self.push(Node::Int(value));
        Ok(())
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("a name without an end")?;
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map(str::to_owned).map_err(|_| "a name that is no text".into())
    }
}
