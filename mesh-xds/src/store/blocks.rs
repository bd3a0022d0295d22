use std::net::IpAddr;
use std::sync::Arc;

/// Blocks of addresses with what belongs to each: a binary trie that leaves out places without a
/// choice, so an address passes at most as many nodes as there are blocks around it. Copies share
/// what they have in common.
#[derive(Clone, Debug)]
pub(crate) struct Blocks<V> {
    v4: Option<Arc<Node<V>>>,
    v6: Option<Arc<Node<V>>>,
}

/// A block of addresses, or a fork between several.
#[derive(Clone, Debug)]
struct Node<V> {
    block: Block,
    value: Option<V>,
    branches: [Option<Arc<Self>>; 2],
}

/// The `length` highest bits of addresses; the others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    bits: u128,
    length: u8,
}

impl<V: Clone> Blocks<V> {
    pub(crate) fn new() -> Self {
        Self { v4: None, v6: None }
    }

    /// Changes what belongs to a block; nothing belongs to one that was never changed. With `None`
    /// as the result the block is gone.
    pub(crate) fn change(&mut self, address: IpAddr, length: u8, change: impl FnOnce(Option<V>) -> Option<V>) {
        let block = Block::new(address, length);
        let root = match address {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        };
        Node::change(root, block, change);
    }

    /// Visits what belongs to the blocks around an address, the widest first.
    pub(crate) fn visit<'a>(&'a self, address: IpAddr, mut visitor: impl FnMut(u8, &'a V)) {
        let full = Block::new(address, u8::MAX);
        let mut next = match address {
            IpAddr::V4(_) => self.v4.as_deref(),
            IpAddr::V6(_) => self.v6.as_deref(),
        };
        while let Some(node) = next.filter(|node| node.block.contains(full)) {
            if let Some(value) = &node.value {
                visitor(node.block.length, value);
            }
            next = node.branch(full).as_deref();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

impl<V: Clone> Node<V> {
    fn change(place: &mut Option<Arc<Self>>, block: Block, change: impl FnOnce(Option<V>) -> Option<V>) {
        let Some(node) = place else {
            *place = change(None).map(|value| Arc::new(Self::leaf(block, value)));
            return;
        };
        if !node.block.contains(block) {
            let Some(value) = change(None) else {
                return;
            };
            *place = Some(Arc::new(Self::above(block, value, Arc::clone(node))));
            return;
        }
        let inner = Arc::make_mut(node);
        if inner.block == block {
            inner.value = change(inner.value.take());
        } else {
            Self::change(inner.branch_mut(block), block, change);
        }
        // A fork with one way is none.
        if inner.value.is_none() {
            match &mut inner.branches {
                [Some(_), Some(_)] => {}
                [only, None] | [None, only] => *place = only.take(),
            }
        }
    }

    fn leaf(block: Block, value: V) -> Self {
        Self {
            block,
            value: Some(value),
            branches: [None, None],
        }
    }

    /// A block with another one in or beside it.
    fn above(block: Block, value: V, other: Arc<Self>) -> Self {
        let other_block = other.block;
        let shared = block.shared(other_block);
        let leaf = Self::leaf(block, value);
        if shared == block {
            let mut node = leaf;
            *node.branch_mut(other_block) = Some(other);
            return node;
        }
        let mut fork = Self {
            block: shared,
            value: None,
            branches: [None, None],
        };
        *fork.branch_mut(other_block) = Some(other);
        *fork.branch_mut(block) = Some(Arc::new(leaf));
        fork
    }

    /// The way towards a narrower block.
    fn branch(&self, block: Block) -> &Option<Arc<Self>> {
        let [zero, one] = &self.branches;
        if block.bit(self.block.length) { one } else { zero }
    }

    fn branch_mut(&mut self, block: Block) -> &mut Option<Arc<Self>> {
        let [zero, one] = &mut self.branches;
        if block.bit(self.block.length) { one } else { zero }
    }
}

impl Block {
    /// A block around an address; `length` is cut to what its family has.
    fn new(address: IpAddr, length: u8) -> Self {
        let (bits, most) = match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let length = length.min(most);
        Self {
            bits: bits & Self::mask(length),
            length,
        }
    }

    fn contains(self, other: Self) -> bool {
        self.length <= other.length && (self.bits ^ other.bits) & Self::mask(self.length) == 0
    }

    /// The narrowest block around both.
    fn shared(self, other: Self) -> Self {
        let alike = (self.bits ^ other.bits).leading_zeros() as u8;
        let length = alike.min(self.length).min(other.length);
        Self {
            bits: self.bits & Self::mask(length),
            length,
        }
    }

    /// The bit after the first `place` ones; false where there is none.
    fn bit(self, place: u8) -> bool {
        self.bits
            .checked_shl(u32::from(place))
            .is_some_and(|bits| bits >> 127 == 1)
    }

    fn mask(length: u8) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn around(blocks: &Blocks<u32>, address: &str) -> Vec<(u8, u32)> {
        let mut found = Vec::new();
        blocks.visit(address.parse().unwrap(), |length, value| found.push((length, *value)));
        found
    }

    fn set(blocks: &mut Blocks<u32>, address: &str, length: u8, value: u32) {
        blocks.change(address.parse().unwrap(), length, |_| Some(value));
    }

    #[test]
    fn blocks_are_visited_from_the_widest_to_the_narrowest() {
        let mut blocks = Blocks::new();
        set(&mut blocks, "10.1.2.0", 24, 3);
        set(&mut blocks, "0.0.0.0", 0, 0);
        set(&mut blocks, "10.0.0.0", 8, 1);
        set(&mut blocks, "10.128.0.0", 9, 2);
        set(&mut blocks, "10.1.2.3", 32, 4);
        assert_eq!(around(&blocks, "10.1.2.3"), [(0, 0), (8, 1), (24, 3), (32, 4)]);
        assert_eq!(around(&blocks, "10.200.0.1"), [(0, 0), (8, 1), (9, 2)]);
        assert_eq!(around(&blocks, "192.0.2.1"), [(0, 0)]);
        assert_eq!(around(&blocks, "::a01:203"), [], "families are apart");
    }

    #[test]
    fn the_widest_and_the_narrowest_v6_blocks_hold() {
        let mut blocks = Blocks::new();
        set(&mut blocks, "::", 0, 0);
        set(&mut blocks, "2001:db8::1", 128, 1);
        assert_eq!(around(&blocks, "2001:db8::1"), [(0, 0), (128, 1)]);
        assert_eq!(around(&blocks, "2001:db8::2"), [(0, 0)]);
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_a_list(
            steps in prop::collection::vec((0_u32..16, 0_u8..=5, prop::option::of(0_u32..9)), 0..60),
        ) {
            // Four bits in the middle of an address, so that blocks often lie in each other.
            let address = |bits: u32| IpAddr::V4(Ipv4Addr::from_bits(bits << 20));
            let mut blocks = Blocks::new();
            let mut list = BTreeMap::new();
            for (bits, length, value) in steps {
                let length = length + 7;
                let start = bits << 20 & (u32::MAX << (32 - length));
                blocks.change(address(bits), length, |_| value);
                match value {
                    Some(value) => list.insert((length, start), value),
                    None => list.remove(&(length, start)),
                };
                for bits in 0..16 {
                    let mut found = Vec::new();
                    blocks.visit(address(bits), |length, value| found.push((length, *value)));
                    let expected: Vec<_> = list
                        .iter()
                        .filter(|((length, start), _)| bits << 20 & (u32::MAX << (32 - length)) == *start)
                        .map(|((length, _), value)| (*length, *value))
                        .collect();
                    prop_assert_eq!(found, expected);
                }
                prop_assert_eq!(blocks.is_empty(), list.is_empty());
            }
        }
    }
}
