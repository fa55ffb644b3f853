/// Where work says how far it has come.
pub trait Progress {
    /// Something begins, and ends when the step is dropped.
    fn begin(&self, task: Task<'_>) -> Box<dyn Step>;
}

/// Something that goes on. It is told by several threads.
pub trait Step: Sync {
    /// So many bytes more are to come.
    fn expect(&self, bytes: u64);
    /// So many bytes more are done.
    fn done(&self, bytes: u64);
}

/// What is being done.
#[derive(Clone, Copy, Debug)]
pub enum Task<'a> {
    /// So many layers are read: how many bytes they hold is not known before.
    Layers(&'static str, usize),
    /// Files are read, or something is transferred: how many bytes that is is told on the way.
    Bytes(&'static str),
    /// Nothing is known but that it goes on.
    Waiting(&'a str),
}

impl Progress for () {
    fn begin(&self, _: Task<'_>) -> Box<dyn Step> {
        Box::new(())
    }
}

impl Step for () {
    fn expect(&self, _: u64) {}
    fn done(&self, _: u64) {}
}
