/// Where work reports its progress.
pub trait Progress {
    /// Begins a task, which ends when the step is dropped.
    fn begin(&self, task: Task<'_>) -> Box<dyn Step>;
}

/// A task in progress. Several threads report to it.
pub trait Step: Sync {
    /// Expects so many more bytes.
    fn expect(&self, bytes: u64);
    /// Counts so many more bytes as done.
    fn done(&self, bytes: u64);
}

/// What is being done.
#[derive(Clone, Copy, Debug)]
pub enum Task<'a> {
    /// So many layers are read: how many bytes they hold is not known beforehand.
    Layers(&'static str, usize),
    /// Files are read, or something is transferred: how many bytes are involved is reported on the way.
    Bytes(&'static str),
    /// Nothing is known except that it goes on.
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
