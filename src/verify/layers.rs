use std::rc::Rc;

use crate::digest::Algorithm;
use crate::error::Result;
use crate::image::{Contents, Keep};

/// How the layers are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// The algorithm of the digests.
    pub algorithm: Algorithm,
    /// Whether somebody trusted has signed a statement that names image and EROFS images together.
    /// Without one only the diff_ids in the config say which layers are the image's, and a reader that
    /// does not check them would let the layers of one image pass with the seal of another.
    pub bound: bool,
    /// What is needed of them.
    pub keep: Keep,
}

/// The layers of an image: read when they are needed, and not again where what was read is enough.
pub struct LayerReader<'a> {
    read: Box<dyn FnMut(ReadOptions) -> Result<Contents> + 'a>,
    /// What was read, one for each algorithm, the last one at the end.
    had: Vec<(ReadOptions, Rc<Contents>)>,
}

impl<'a> LayerReader<'a> {
    /// Makes a reader of layers that `read` can read.
    pub fn new(read: impl FnMut(ReadOptions) -> Result<Contents> + 'a) -> Self {
        Self { read: Box::new(read), had: Vec::new() }
    }

    /// Returns what the layers hold.
    ///
    /// # Errors
    /// Whatever reading has to say.
    pub fn get(&mut self, wanted: ReadOptions) -> Result<Rc<Contents>> {
        let enough = |(had, contents): &&(ReadOptions, Rc<Contents>)| {
            // Layers whose diff_ids were checked are good for a bound seal too.
            had.algorithm == wanted.algorithm && (wanted.bound || !had.bound) && contents.has(wanted.keep)
        };
        if let Some((_, contents)) = self.had.iter().find(enough) {
            return Ok(contents.clone());
        }
        self.had.retain(|(had, _)| had.algorithm != wanted.algorithm);
        let contents = Rc::new((self.read)(wanted)?);
        self.had.push((wanted, contents.clone()));
        Ok(contents)
    }

    /// Returns what was read last, if anything was.
    pub fn last(&self) -> Option<Rc<Contents>> {
        self.had.last().map(|(_, contents)| contents.clone())
    }
}

impl std::fmt::Debug for LayerReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layers").field("had", &self.had).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use composefs::generic_tree::Stat;

    use super::*;
    use crate::image::{ContentsRequest, EntryKind, TarEntry};

    const BOUND: ReadOptions = ReadOptions { algorithm: Algorithm::Sha256, bound: true, keep: Keep::Images };

    /// Counts how often the layers are read when these are wanted in turn.
    fn reads(wanted: &[ReadOptions]) -> usize {
        let mut count = 0;
        let mut layers = LayerReader::new(|ReadOptions { algorithm, keep, .. }| {
            count += 1;
            let usr = TarEntry {
                path: (*b"usr").into(),
                kind: EntryKind::Directory,
                stat: Stat::uninitialized(),
                beyond: None,
            };
            Contents::from_layers(ContentsRequest { algorithm, keep }, 1, |take| {
                take(0, vec![usr]);
                Ok(())
            })
        });
        wanted.iter().for_each(|wanted| _ = layers.get(*wanted).unwrap());
        drop(layers);
        count
    }

    #[test]
    fn layers_are_read_again_only_for_what_is_missing() {
        let unbound = ReadOptions { bound: false, ..BOUND };
        let entries = ReadOptions { keep: Keep::Entries, ..BOUND };
        let other = ReadOptions { algorithm: Algorithm::Sha512, ..BOUND };
        assert_eq!(reads(&[BOUND, BOUND]), 1);
        assert_eq!(reads(&[unbound, BOUND]), 1, "their diff_ids are checked already");
        assert_eq!(reads(&[BOUND, unbound]), 2, "their diff_ids are not checked yet");
        assert_eq!(reads(&[BOUND, entries, BOUND]), 2);
        assert_eq!(reads(&[BOUND, other, BOUND, other]), 2);
    }
}
