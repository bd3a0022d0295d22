//! Where nodes are drawn: in columns from those who ask to those who answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::graph::{Link, Node};

/// The middle of a node, in the units of the drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    pub(crate) x: u32,
    pub(crate) y: u32,
}

/// From one column to the next, and from one row to the next.
const COLUMN: u32 = 400;
const ROW: u32 = 108;

/// From the edge of the drawing to the middle of a node.
const MARGIN: Place = Place { x: 120, y: 64 };

/// Room on either side for lines that lead back.
const RETURN: u32 = 100;

/// Rounds in which columns are ordered by their neighbours.
const ROUNDS: usize = 4;

/// Gives each node its place and each link its bends; answers with the size of the drawing.
pub(super) fn place(nodes: &mut [Node], links: &mut [Link]) -> (u32, u32) {
    let numbers: BTreeMap<&str, usize> = nodes.iter().enumerate().map(|(at, node)| (&*node.id, at)).collect();
    let ends: Vec<Option<(usize, usize)>> = links
        .iter()
        .map(|link| Some((*numbers.get(&*link.from)?, *numbers.get(&*link.to)?)))
        .collect();
    let arcs = ends.iter().flatten().copied().filter(|(from, to)| from != to).collect();
    let mut columns = columns(nodes.len(), &arcs);
    let (arcs, passages) = passages(&mut columns, nodes.len(), &arcs);
    let columns = ordered(columns, &arcs);
    let tallest = columns.iter().map(Vec::len).max().unwrap_or_default();
    let mut places = BTreeMap::new();
    let left = MARGIN.x
        + if ends.iter().flatten().any(|ends| !passages.contains_key(ends)) {
            RETURN
        } else {
            0
        };
    for (x, column) in (0..).zip(&columns) {
        let above = number(tallest - column.len()) * ROW / 2;
        places.extend((0..).zip(column).map(|(y, &at)| {
            let place = Place {
                x: left + x * COLUMN,
                y: MARGIN.y + above + y * ROW,
            };
            (at, place)
        }));
    }
    for (at, node) in nodes.iter_mut().enumerate() {
        node.place = places.get(&at).copied().unwrap_or_default();
    }
    for (link, ends) in links.iter_mut().zip(ends) {
        let passages = ends.and_then(|ends| passages.get(&ends)).into_iter().flatten();
        link.bends = passages.filter_map(|at| places.get(at).copied()).collect();
    }
    (
        left * 2 + number(columns.len()).saturating_sub(1) * COLUMN,
        MARGIN.y * 2 + number(tallest).saturating_sub(1) * ROW,
    )
}

type Arcs = BTreeSet<(usize, usize)>;

/// Has arcs that pass by columns take up room in each of them, as if there were nodes. Answers with
/// the arcs between neighbouring columns, and what stands for nodes on the way of each arc that does
/// not lead back.
fn passages(columns: &mut [Vec<usize>], count: usize, arcs: &Arcs) -> (Arcs, BTreeMap<(usize, usize), Vec<usize>>) {
    let mut depths = BTreeMap::new();
    for (depth, column) in columns.iter().enumerate() {
        depths.extend(column.iter().map(|at| (*at, depth)));
    }
    let (mut next, mut steps, mut passages) = (count, Arcs::new(), BTreeMap::new());
    for &(from, to) in arcs {
        let Some((&first, &last)) = depths.get(&from).zip(depths.get(&to)) else {
            continue;
        };
        if last <= first {
            continue;
        }
        let (mut before, mut way) = (from, Vec::new());
        for column in columns.iter_mut().take(last).skip(first + 1) {
            column.push(next);
            steps.insert((before, next));
            way.push(next);
            before = next;
            next += 1;
        }
        steps.insert((before, to));
        passages.insert((from, to), way);
    }
    (steps, passages)
}

/// The nodes by columns. An arc leads to the right, as far as arcs do not go round in circles.
fn columns(count: usize, arcs: &Arcs) -> Vec<Vec<usize>> {
    let mut depths = vec![0_usize; count];
    // Without circles, the longest way has fewer arcs than there are nodes.
    let forward = without_circles(count, arcs);
    for _ in 0..count {
        let mut is_done = true;
        for &(from, to) in &forward {
            let least = depths.get(from).map_or(0, |depth| depth + 1);
            if let Some(depth) = depths.get_mut(to).filter(|depth| **depth < least) {
                *depth = least;
                is_done = false;
            }
        }
        if is_done {
            break;
        }
    }
    let mut columns = vec![Vec::new(); depths.iter().max().map_or(0, |most| most + 1)];
    for (at, depth) in depths.into_iter().enumerate() {
        if let Some(column) = columns.get_mut(depth) {
            column.push(at);
        }
    }
    columns
}

/// The arcs that do not lead back to where a walk came from.
fn without_circles(count: usize, arcs: &Arcs) -> Vec<(usize, usize)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        OnTheWay,
        Left,
    }
    let next = |from: usize| arcs.range((from, 0)..=(from, usize::MAX)).map(|(_, to)| *to);
    let mut marks = vec![Mark::New; count];
    let mut forward = Vec::new();
    let is_target: BTreeSet<usize> = arcs.iter().map(|(_, to)| *to).collect();
    // Whoever is asked by nobody comes first.
    let mut starts: Vec<usize> = (0..count).collect();
    starts.sort_by_key(|at| is_target.contains(at));
    for start in starts {
        let mut way = vec![(start, next(start).collect::<Vec<_>>())];
        if marks.get(start) != Some(&Mark::New) {
            continue;
        }
        while let Some((at, rest)) = way.last_mut() {
            let at = *at;
            if let Some(mark) = marks.get_mut(at) {
                *mark = Mark::OnTheWay;
            }
            let Some(to) = rest.pop() else {
                if let Some(mark) = marks.get_mut(at) {
                    *mark = Mark::Left;
                }
                way.pop();
                continue;
            };
            match marks.get(to) {
                Some(Mark::OnTheWay) | None => {}
                Some(Mark::Left) => forward.push((at, to)),
                Some(Mark::New) => {
                    forward.push((at, to));
                    way.push((to, next(to).collect()));
                }
            }
        }
    }
    forward
}

/// Puts nodes near those that they have arcs with, so that fewer lines cross: one column after the
/// other, or two would change places with each other for ever.
fn ordered(mut columns: Vec<Vec<usize>>, arcs: &Arcs) -> Vec<Vec<usize>> {
    let mut neighbours: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &(from, to) in arcs {
        neighbours.entry(from).or_default().push(to);
        neighbours.entry(to).or_default().push(from);
    }
    let mut heights = BTreeMap::new();
    columns.iter().for_each(|column| note_heights(column, &mut heights));
    for _ in 0..ROUNDS {
        for column in &mut columns {
            // Those with no neighbours are drawn below the others.
            let mean = |at: &usize| {
                let near = neighbours.get(at).map_or(&[][..], Vec::as_slice);
                let sum: f64 = near.iter().filter_map(|near| heights.get(near)).sum();
                if near.is_empty() {
                    f64::MAX
                } else {
                    sum / f64::from(number(near.len()))
                }
            };
            column.sort_by(|one, other| mean(one).total_cmp(&mean(other)));
            note_heights(column, &mut heights);
        }
    }
    columns
}

/// Columns are drawn around one middle.
fn note_heights(column: &[usize], heights: &mut BTreeMap<usize, f64>) {
    let middle = f64::from(number(column.len())) / 2.0;
    heights.extend((0..).zip(column).map(|(row, at)| (*at, f64::from(row) - middle)));
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX / (COLUMN * 2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(count: usize, arcs: &[(usize, usize)]) -> Vec<Vec<usize>> {
        columns(count, &arcs.iter().copied().collect())
    }

    #[test]
    fn arcs_lead_to_the_right() {
        assert_eq!(of(4, &[(0, 1), (1, 2), (0, 2), (3, 2)]), [vec![0, 3], vec![1], vec![2]]);
    }

    #[test]
    fn those_who_ask_each_other_do_not_run_away() {
        assert_eq!(of(3, &[(0, 1), (1, 2), (2, 1)]), [vec![0], vec![1], vec![2]]);
    }

    #[test]
    fn neighbours_are_at_the_same_height() {
        let arcs = [(0, 3), (1, 2)].into_iter().collect();
        let ordered = ordered(columns(4, &arcs), &arcs);
        assert_eq!(ordered, [vec![1, 0], vec![2, 3]]);
    }

    #[test]
    fn long_arcs_pass_between_nodes() {
        let arcs = [(0, 1), (1, 2), (0, 2)].into_iter().collect();
        let mut columns = columns(3, &arcs);
        let (steps, passages) = passages(&mut columns, 3, &arcs);
        assert_eq!(columns, [vec![0], vec![1, 3], vec![2]]);
        assert_eq!(steps.into_iter().collect::<Vec<_>>(), [(0, 1), (0, 3), (1, 2), (3, 2)]);
        assert_eq!(passages[&(0, 2)], [3]);
        let back = [(0, 1), (1, 0)].into_iter().collect();
        let mut two = self::columns(2, &back);
        assert!(!self::passages(&mut two, 2, &back).1.contains_key(&(1, 0)));
    }

    proptest! {
        #[test]
        fn every_node_has_one_place(count in 1..12_usize, arcs in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..30)) {
            let arcs: BTreeSet<_> = arcs.into_iter().filter(|(from, to)| from != to && *from < count && *to < count).collect();
            let mut placed: Vec<_> = ordered(columns(count, &arcs), &arcs).concat();
            placed.sort_unstable();
            prop_assert_eq!(placed, (0..count).collect::<Vec<_>>());
        }
    }
}
