//! What would stop a move, by name, with its remedy.

use std::fmt;

/// One table of all kinds: the variant, its name, whether a person may accept it, and what it means.
macro_rules! kinds {
    ($($kind:ident $name:literal $acceptable:literal $meaning:literal)*) => {
        /// What a fault is about. The name is the one in docs/resharding.md and in `--accept`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FaultKind {
            $(#[doc = $meaning] $kind,)*
        }

        impl FaultKind {
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name in what is printed and in `--accept`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// Whether the move may go on when a person says so: nothing breaks by it that the tool could see.
            pub fn is_acceptable(self) -> bool {
                match self { $(Self::$kind => $acceptable,)* }
            }

            /// What it means, as the docs say it.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$kind => $meaning,)* }
            }
        }
    };
}

kinds! {
    TargetUndeclared "target-undeclared" false "the rules file declares no shard of the target's name"
    DrainOverHold "drain-over-hold" false "`--drain` is longer than writes are held"
    MembersUnknown "members-unknown" true "no address of sidecars and consumers is given"
    MemberUnfit "member-unfit" false "a sidecar or consumer does not follow the map, or can't serve it"

    SameDatabase "same-database" false "source and target are one database"
    VersionTooOld "version-too-old" false "a server is older than PostgreSQL 15"
    InRecovery "in-recovery" false "a server is a replica"
    ReadOnly "read-only" false "a database takes no writes by default"
    WalLevel "wal-level" false "the WAL has not what logical replication needs"
    NoFreeSlot "no-free-slot" false "all replication slots are used"
    NoFreeOrigin "no-free-origin" false "all replication origins are used"
    NoFreeSender "no-free-sender" false "too few WAL senders are free"
    NoFreeWorker "no-free-worker" false "all workers of logical replication are used"
    PoolerBetween "pooler-between" false "a pooler stands between this tool and the server"
    ReplicationRefused "replication-refused" false "the server takes no replication connection"
    NotReached "not-reached" false "one database does not reach the other, as its subscription must"
    SlotWalLimit "slot-wal-limit" true "the server would remove WAL that the move still needs"
    IdleSlotTimeout "idle-slot-timeout" false "the server would end a slot that waits"
    OutputPlugin "output-plugin" false "the server does not allow `pgoutput`"
    EncodingDiffers "encoding-differs" false "the databases have different encodings"
    MoneyFormatDiffers "money-format-differs" false "a column of type money is written differently on the two servers"
    OpenTransaction "open-transaction" false "a transaction that has written does not end; a new slot waits for it"
    PreparedTransaction "prepared-transaction" false "a prepared transaction is left open; a new slot waits for it for ever"

    NoReplicationAttribute "no-replication-attribute" false "the role has not REPLICATION"
    NoCreate "no-create" false "the role may not create a schema and a publication"
    NoSuperuser "no-superuser" false "PostgreSQL 15 lets only a superuser subscribe"
    NoSubscribe "no-subscribe" false "the role may not subscribe"
    NoPassword "no-password" false "a subscription of this role needs a password that the other server asks for"
    NoReplicaRole "no-replica-role" false "the role may not set `session_replication_role`"
    SessionsHidden "sessions-hidden" true "the role does not see the sessions of others"
    NotOwner "not-owner" false "the role does not own a table"
    OwnerOutOfReach "owner-out-of-reach" false "the role can't SET ROLE to a table's owner, as whom changes are applied"
    RowSecurity "row-security" false "policies may hide rows from the role"
    NotReadable "not-readable" false "the role may not read a table"

    TableMissing "table-missing" false "a shard has no such table"
    NotATable "not-a-table" false "it is a view, a foreign table or another kind of relation"
    PartitionedTable "partitioned-table" false "the table is partitioned, or is a partition"
    TableInherits "table-inherits" false "the table inherits from another, or another from it"
    UnloggedTable "unlogged-table" false "the table is not in the WAL"
    NoPrimaryKey "no-primary-key" false "the table has no primary key"
    KeyMissing "key-missing" false "the table has no such column"
    KeyGenerated "key-generated" false "the key is a generated column"
    KeyDomain "key-domain" false "the key's type is a domain"
    KeyCollation "key-collation" false "the key has a collation of its own"
    KeyType "key-type" false "the key's type is not that of the map"
    KeyNullable "key-nullable" false "the key may be NULL"
    KeyNotInIdentity "key-not-in-identity" false "the key does not belong to the replica identity; a publication would break every UPDATE and DELETE"
    IdentityDiffers "identity-differs" false "the other server finds no row by what is sent of this one's"

    ColumnMissing "column-missing" false "only one of the shards has a column"
    TypeDiffers "type-differs" false "a column has another type"
    NullDiffers "null-differs" false "a column may be NULL on one shard only"
    DefaultDiffers "default-differs" true "a column has another default"
    GeneratedDiffers "generated-differs" false "a column is generated otherwise"
    IdentityColumnDiffers "identity-column-differs" false "an identity column is none on the other shard, or of another kind"
    CollationDiffers "collation-differs" false "a column has another collation"
    CheckDiffers "check-differs" false "only one of the shards has a check"
    IndexDiffers "index-differs" true "only one of the shards has an index"
    ForeignKeyDiffers "foreign-key-differs" false "only one of the shards has a foreign key"

    ForeignKeyLeavesTables "foreign-key-leaves-tables" true "a foreign key ties a table that moves to one that does not"
    ForeignKeyLeavesRange "foreign-key-leaves-range" false "a foreign key ties rows that move to rows that stay"
    TriggerFiresOnLoad "trigger-fires-on-load" false "a trigger fires for replicated rows, too"
    TriggerAfterGate "trigger-after-gate" false "a trigger fires after the gate and could change the key"
    OtherGate "other-gate" true "another move guards the table, or has left its gate behind"
    TriggerDiffers "trigger-differs" true "only one of the shards has a trigger"
    OtherPublication "other-publication" true "somebody else reads the table's changes; moved rows look new, and deleted at the source"
    SubscriptionWrites "subscription-writes" false "a subscription writes the table; the gate does not stop it"
    TruncateSeen "truncate-seen" true "the table is truncated at times, which is refused during a move"

    RowsInRange "rows-in-range" false "the target has rows of the range already"
    UniqueWithoutKey "unique-without-key" false "a unique index without the key, on a target with rows"
    KeyCollides "key-collides" false "a primary key without the shard's key, and the target has rows of the same"
    SequenceWithoutKey "sequence-without-key" true "a primary or unique key without the shard's key, fed by a sequence on both sides"
    SequenceMissing "sequence-missing" false "a sequence feeds the column at the source only"
    SequenceTooShort "sequence-too-short" false "the target's sequence ends below what the source has used"
    SequenceNotSettable "sequence-not-settable" false "the role may not set a sequence"
    NotChecked "not-checked" true "a question about rows was not answered in time"
}

/// One thing that would stop a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// Name of the shard where it is mended.
    pub shard: String,
    /// The table, or `server`, `role`, `map`.
    pub subject: String,
    /// What is wrong, as a sentence without its full stop.
    pub what: String,
    /// How to mend it: a statement where there is one.
    pub remedy: String,
}

impl Fault {
    pub fn new(
        kind: FaultKind,
        (shard, subject): (&str, &str),
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (shard, subject) = (shard.to_owned(), subject.to_owned());
        Self { kind, shard, subject, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, shard, subject, what, remedy } = self;
        write!(out, "{}: {shard}, {subject}: {what}\n    {remedy}", kind.name())
    }
}
