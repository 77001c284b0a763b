//! The command line of what operators do.

use crate::admin::partitions::PartitionKind;
use clap::{Args, Subcommand};

/// Subcommands for running nodes.
#[derive(Debug, Subcommand)]
pub enum Operation {
    /// Prints which nodes there are and what each owns, as a running node knows it.
    #[command(after_help = NODES)]
    Nodes(NodesArgs),
    /// Prints every partition: owner, lease_epoch, sessions on all nodes, how far its owner reads.
    #[command(after_help = PARTITIONS, visible_alias = "owners")]
    Partitions(PartitionsArgs),
    /// Prints how far each node is behind the delivery log, and ingest behind its own; the worst first.
    #[command(after_help = LAG)]
    Lag(LagArgs),
    /// Prints a user's sessions on all nodes.
    #[command(after_help = SESSIONS)]
    Sessions(SessionsArgs),
    /// Closes a user's sessions on all nodes.
    #[command(after_help = KICK)]
    Kick(KickArgs),
    /// Sends the sessions of a user or of a partition to the node that owns them, or to a named one.
    #[command(after_help = RELOCATE)]
    Relocate(RelocateArgs),
    /// Drains a node as SIGTERM does, and waits until its sessions and partitions are elsewhere.
    #[command(after_help = DRAIN)]
    Drain(DrainArgs),
}

const NODES: &str = "\
Example:
  hawser-gateway nodes --ask 10.0.0.1:9090 --partitions

Exit codes: 0 answered, 1 no answer, 2 a wrong command line or configuration.";
const PARTITIONS: &str = "\
Example:
  hawser-gateway partitions --ask 10.0.0.1:9090 --node gw-2
      what gw-2 owns: sessions and guests on all nodes, how far gw-2 reads, end of the log

The asked node names the others; each is asked at the address that it gives (cluster.link).
By owner: hawser-gateway nodes --partitions. `-` is what nobody said.

Exit codes: 0 all is printed, 1 a node or a core did not answer, 2 a wrong command line.";
const LAG: &str = "\
Example:
  hawser-gateway lag --ask 10.0.0.1:9090 --json

The asked node names the others; each is asked at the address that it gives (cluster.link).

Exit codes: 0 all is printed, 1 a node or a core did not answer, 2 a wrong command line.";
const SESSIONS: &str = "\
Examples:
  hawser-gateway sessions --user alice
  HAWSER_ADMIN_TOKEN=$(hawser-gateway token --user ops --device cli --admin-scope) \\
      hawser-gateway sessions --user alice --ask 10.0.0.1:9090

The asked node names the others; each is asked at the address that it gives (cluster.link).
From the same machine no token is needed. When a session began is not kept.

Exit codes: 0 all nodes answered, also without sessions; 1 one did not; 2 a wrong command line.";
const KICK: &str = "\
Examples:
  hawser-gateway kick --user alice --device phone
      closes with 4300: the client connects anew at once, and resumes
  hawser-gateway kick --user mallory --stay-out --reason \"please call us\"
      closes with 4003: the client does not come back by itself. The token stays good: to keep
      somebody out, ban them (POST /v1/revocations)

Exit codes: 0 all nodes answered, also without sessions; 1 one did not; 2 a wrong command line.";
const RELOCATE: &str = "\
Examples:
  hawser-gateway relocate --user alice
      her guest sessions go to the node that owns her partition
  hawser-gateway relocate --partition 12 --to gw-2
      all sessions of partition 12 go to gw-2, which sends them on if another is the owner

Each session gets a slot of its own and opens the new connection before it closes the old.
With --partition it waits until they have gone. Sessions that said redirect_never stay.

Exit codes: 0 done, 1 a node did not answer or sessions were left, 2 a wrong command line.";
const DRAIN: &str = "\
Examples:
  hawser-gateway drain --ask 10.0.0.1:9090
      the node stays up without clients, for a look at it; start it anew to bring it back
  hawser-gateway drain --ask 10.0.0.1:9090 --exit
      the process ends, as by SIGTERM

There is no undo: the listeners are closed for good. What is left of the sessions after
node.drain_ms is closed with 4300.

Exit codes: 0 done, 1 no answer or not done in time (the drain goes on), 2 a wrong command line.";

/// Whom to ask, and how to print it.
#[derive(Debug, Clone, Args)]
pub struct AskArgs {
    /// The node's admin listener, HOST:PORT; default: `listen.admin` of the configuration.
    #[arg(long, value_name = "HOST:PORT")]
    pub ask: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Who asks.
#[derive(Debug, Clone, Args)]
pub struct TokenArg {
    /// A token with the scope `admin`, for nodes on other machines: `hawser-gateway token --admin-scope`, or your issuer's.
    /// It goes over plain HTTP: keep the admin listeners on a network of your own.
    #[arg(
        long,
        value_name = "JWT",
        env = "HAWSER_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
}

/// Of `nodes`.
#[derive(Debug, Args)]
pub struct NodesArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Which partitions each owns, too.
    #[arg(long)]
    pub partitions: bool,
}

/// Of `partitions`.
#[derive(Debug, Args)]
pub struct PartitionsArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Those of one owner.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Which.
    #[arg(long, value_enum, default_value_t)]
    pub kind: PartitionKind,
}

/// Of `lag`.
#[derive(Debug, Args)]
pub struct LagArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Of `sessions`.
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Who asks.
    #[command(flatten)]
    pub token: TokenArg,
    /// Whose.
    #[arg(long, value_name = "NAME")]
    pub user: String,
}

/// Of `kick`.
#[derive(Debug, Args)]
pub struct KickArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Who asks.
    #[command(flatten)]
    pub token: TokenArg,
    /// Whose sessions.
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// One device's alone.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Told to the client; at most 120 bytes.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Close with 4003 instead of 4300: the client does not come back by itself.
    #[arg(long)]
    pub stay_out: bool,
}

/// Of `relocate`.
#[derive(Debug, Args)]
pub struct RelocateArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Who asks.
    #[command(flatten)]
    pub token: TokenArg,
    /// Whose sessions.
    #[arg(long, value_name = "NAME", required_unless_present = "partition")]
    pub user: Option<String>,
    /// A delivery partition's sessions.
    #[arg(long, value_name = "PARTITION", conflicts_with = "user")]
    pub partition: Option<u32>,
    /// The node to go to; default: who owns the partition.
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// With --partition: wait so long for sessions to go, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    pub timeout_s: u64,
}

/// Of `drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Who asks.
    #[command(flatten)]
    pub token: TokenArg,
    /// The process ends afterwards.
    #[arg(long)]
    pub exit: bool,
    /// Wait so long, seconds; default: `node.drain_ms` of that node and 15 s.
    #[arg(long, value_name = "SECONDS")]
    pub timeout_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::{CommandFactory, Parser};

    fn parsed(args: &[&str]) -> Result<Operation, clap::error::ErrorKind> {
        let all = std::iter::once("hawser-gateway").chain(args.iter().copied());
        match Cli::try_parse_from(all).map_err(|e| e.kind())?.command {
            Some(Command::Operate(operation)) => Ok(operation),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_belongs_together_is_asked_for_together() {
        use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument};
        Cli::command().debug_assert();
        for (args, wanted) in [
            (&["sessions"][..], MissingRequiredArgument),
            (&["kick", "--device", "phone"], MissingRequiredArgument),
            (&["relocate", "--to", "b"], MissingRequiredArgument),
            (
                &["relocate", "--user", "alice", "--partition", "3"],
                ArgumentConflict,
            ),
        ] {
            assert_eq!(parsed(args).err(), Some(wanted), "{args:?}");
        }
        let Ok(Operation::Relocate(relocate)) = parsed(&["relocate", "--partition", "3"]) else {
            panic!("it is sound")
        };
        assert_eq!((relocate.partition, relocate.timeout_s), (Some(3), 90));
    }
}
