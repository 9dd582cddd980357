use proptest::prelude::*;

use super::parser::{Node, Pickle, parse};
use super::writer::Writer;

fn written(fill: impl FnOnce(&mut Writer)) -> Pickle {
    let mut writer = Writer::new();
    fill(&mut writer);
    parse(&writer.finish()).unwrap()
}

#[test]
fn integers_come_back() {
    for value in [0, 1, 255, 256, 65535, 65536, -1, -129, i64::from(i32::MAX) + 1, i64::MIN, i64::MAX] {
        let pickle = written(|writer| writer.int(value));
        assert_eq!(pickle.node(pickle.root), &Node::Int(value));
    }
}

#[test]
fn a_list_may_hold_itself() {
    let pickle = written(|writer| {
        writer.empty_list();
        let number = writer.put();
        writer.mark();
        writer.get(number);
        writer.appends();
    });
    assert_eq!(pickle.node(pickle.root), &Node::List(vec![pickle.root]));
}

#[test]
fn calls_are_described_and_named() {
    let pickle = written(|writer| {
        writer.global("os", "system");
        assert!(writer.text(b"true"));
        writer.tuple(1);
        writer.reduce();
    });
    assert_eq!(pickle.globals(), [("os", "system")]);
    assert!(matches!(pickle.node(pickle.root), Node::Made(_)));
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
        let mut framed = vec![0x80, 2];
        framed.extend_from_slice(&bytes);
        if let Ok(pickle) = parse(&framed) {
            prop_assert!(pickle.nodes.len() <= framed.len());
            prop_assert!((pickle.root as usize) < pickle.nodes.len());
        }
    }

    #[test]
    fn opcodes_in_any_order_are_an_answer(codes in proptest::collection::vec(
        proptest::sample::select(b"(.01NK\x88G]ae)t\x85\x86\x87}su\x8f\x90\x91R\x81bQqrhj\x94c\x8cU".to_vec()), 0..80)) {
        let mut bytes = vec![0x80, 2];
        bytes.extend_from_slice(&codes);
        let _ = parse(&bytes);
    }
}
