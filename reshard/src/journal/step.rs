//! How far a move has come.

/// How far a move has come. Each step is done over from its beginning by whoever goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its row exists.
    Planned,
    /// The gates exist: closed at the target, open at the source.
    Gated,
    /// The definitions of what is removed from the target are kept; rows may be there.
    Copying,
    /// The rows of the snapshot are at the target.
    Copied,
    /// Keys and indexes are back.
    Indexed,
    /// The target follows the source.
    Following,
    /// Both have been compared while the target followed.
    Verified,
    /// The way back is made.
    Prepared,
    /// The map's members are told, or are about to be.
    Announced,
    /// The range's writes wait, or are about to: whoever goes on undoes that first.
    Fencing,
    /// The map can only be committed.
    PastReturn,
    /// The target owns the range.
    Committed,
    /// The source follows the target.
    Switched,
    /// The same as `Announced` on the way back.
    BackAnnounced,
    /// The same as `Fencing` on the way back.
    BackFencing,
    /// The same as `PastReturn` on the way back.
    BackPastReturn,
    /// The source owns the range again, with all that was written at the target.
    RolledBack,
    /// The way back is closed; the source's rows are being removed.
    Finishing,
    /// Nothing is left of it but its row: the range lies at the target alone.
    Finished,
    /// It is being undone.
    Aborting,
    /// Nothing is left of it but its row.
    Aborted,
}

impl Step {
    pub(super) const ALL: [Self; 21] = [
        Self::Planned,
        Self::Gated,
        Self::Copying,
        Self::Copied,
        Self::Indexed,
        Self::Following,
        Self::Verified,
        Self::Prepared,
        Self::Announced,
        Self::Fencing,
        Self::PastReturn,
        Self::Committed,
        Self::Switched,
        Self::BackAnnounced,
        Self::BackFencing,
        Self::BackPastReturn,
        Self::RolledBack,
        Self::Finishing,
        Self::Finished,
        Self::Aborting,
        Self::Aborted,
    ];

    /// As the journal has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Gated => "gated",
            Self::Copying => "copying",
            Self::Copied => "copied",
            Self::Indexed => "indexed",
            Self::Following => "following",
            Self::Verified => "verified",
            Self::Prepared => "prepared",
            Self::Announced => "announced",
            Self::Fencing => "fencing",
            Self::PastReturn => "past-return",
            Self::Committed => "committed",
            Self::Switched => "switched",
            Self::BackAnnounced => "back-announced",
            Self::BackFencing => "back-fencing",
            Self::BackPastReturn => "back-past-return",
            Self::RolledBack => "rolled-back",
            Self::Finishing => "finishing",
            Self::Finished => "finished",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
        }
    }

    /// Whether the move has ended.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Aborted | Self::Finished)
    }
}
