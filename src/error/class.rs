/// The exit code with which a refusal ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// A fault of this program or an unexpected I/O error.
    Internal = 1,
    /// The command line, the reference or the call cannot be understood.
    Usage = 2,
    /// No seal was found.
    NotSealed = 3,
    /// There is a seal or content, and it is wrong.
    Rejected = 4,
    /// Policy, certificates or keys of this host cannot be used.
    Policy = 5,
    /// The kernel or the filesystem cannot enforce what was asked.
    CannotEnforce = 6,
    /// The network or a time limit left the question open.
    Inconclusive = 7,
    /// The registry has no such image.
    NoImage = 8,
    /// A program that is needed is missing, or too old.
    Tool = 9,
}

impl Class {
    /// All classes in the order of their exit codes, for documentation.
    pub const ALL: [Self; 9] = [
        Self::Internal,
        Self::Usage,
        Self::NotSealed,
        Self::Rejected,
        Self::Policy,
        Self::CannotEnforce,
        Self::Inconclusive,
        Self::NoImage,
        Self::Tool,
    ];

    /// Returns the process exit code.
    pub const fn exit_code(self) -> u8 {
        self as u8
    }

    /// Returns what the exit code means, for the manual page and `--help`.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Internal => "internal error or unexpected I/O error",
            Self::Usage => "the command line or an input file cannot be understood",
            Self::NotSealed => "no seal was found",
            Self::Rejected => "a seal or the content it covers was rejected",
            Self::Policy => "a certificate, key or policy file cannot be used",
            Self::CannotEnforce => "the kernel or the filesystem cannot enforce the seal, or has no room for it",
            Self::Inconclusive => "the network or a time limit left the question open",
            Self::NoImage => "the registry has no such image",
            Self::Tool => "a program that is needed is missing, or too old",
        }
    }
}
