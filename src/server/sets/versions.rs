//! Versions that a node is to go back to and never had: other nodes tell it their rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::source::Source;
use crate::edge::cluster::Peers;
use crate::edge::cluster::report::PieceId;
use crate::edge::store::Digest;
use crate::edge::store::order::SourceWord;
use crate::server::node::Shared;

/// Bytes of a piece: some fit into one packet of the gossip.
const PIECE: usize = 16 << 10;

/// The version that is pinned, if one is.
fn pinned(source: &Source) -> Option<Digest> {
    match source.order()?.word {
        SourceWord::Pin { version, .. } => Some(version),
        SourceWord::Load { .. } => None,
    }
}

impl Shared {
    /// The pinned versions that some other node does not have in place, in pieces; `told` is what they were told before.
    pub(in crate::server) fn versions_told(
        &self,
        peers: &Peers,
        told: &BTreeMap<PieceId, Arc<str>>,
    ) -> BTreeMap<PieceId, Arc<str>> {
        let mut all = BTreeMap::new();
        for (source, version) in self.sources.iter().filter_map(|source| Some((source, pinned(source)?))) {
            let has = |told: &crate::edge::cluster::report::SourceReport| told.digest == Some(version);
            let follows =
                |peer: &crate::edge::cluster::PeerView| peer.view.report.sources.get(&source.name).is_none_or(has);
            if peers.live.iter().all(follows) {
                continue;
            }
            let known: Vec<_> = told.iter().filter(|(id, _)| id.version == version).collect();
            match known.is_empty() {
                false => all.extend(known.into_iter().map(|(id, piece)| (*id, Arc::clone(piece)))),
                true => all.extend(source.version_text(version).iter().flat_map(|text| pieces(version, text))),
            }
        }
        all
    }

    /// Takes the version that is pinned from who tells it, if this node has none of it.
    pub(super) fn hear_version(&self, source: &Source, peers: &Peers) {
        let Some(version) = pinned(source).filter(|version| source.version_of(*version).is_none()) else { return };
        let whole = peers.live.iter().find_map(|peer| whole(version, &peer.view.versions));
        if whole.is_some_and(|text| source.adopt(version, &text)) {
            source.wake.notify_one();
        }
    }
}

/// A version's text, cut where a character ends.
fn pieces(version: Digest, text: &str) -> Vec<(PieceId, Arc<str>)> {
    let mut rest = text;
    let mut cut: Vec<&str> = Vec::new();
    while !rest.is_empty() {
        let mut end = PIECE.min(rest.len());
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, after) = rest.split_at(end);
        cut.push(piece);
        rest = after;
    }
    let of = cut.len() as u32;
    (0..).zip(cut).map(|(nth, piece)| (PieceId { version, nth, of }, piece.into())).collect()
}

/// The text, if all its pieces are there.
fn whole(version: Digest, told: &BTreeMap<PieceId, Arc<str>>) -> Option<String> {
    let of = told.keys().find(|id| id.version == version)?.of;
    (0..of).map(|nth| told.get(&PieceId { version, nth, of }).map(|piece| &**piece)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_whole_once_every_piece_has_come() {
        let version = Digest([3; 16]);
        let text = "ä\u{1f600}x".repeat(PIECE / 2);
        let mut told: BTreeMap<_, _> = pieces(version, &text).into_iter().collect();
        assert!(told.len() > 3 && told.values().all(|piece| piece.len() <= PIECE));
        assert_eq!(whole(version, &told), Some(text));
        assert_eq!(whole(Digest([4; 16]), &told), None);
        let middle = *told.keys().nth(2).expect("a piece");
        told.remove(&middle);
        assert_eq!(whole(version, &told), None);
    }
}
