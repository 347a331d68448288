//! The scripts that Redis runs, and their calls.

use std::sync::LazyLock;

use redis::{FromRedisValue, Script, ToRedisArgs};

use super::store::StoreError;
use super::store_session::Shared;

/// Defines scripts. Each begins with the functions of prelude.lua.
macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!("scripts/prelude.lua"), include_str!(concat!("scripts/", $file))))
        });)*
    };
}

scripts! {
    ACQUIRE = "acquire.lua";
    APPEND = "append.lua";
    COUNT_WRONG = "count_wrong.lua";
    CREATE = "create.lua";
    DEPART = "depart.lua";
    FOLLOW = "follow.lua";
    LIST = "list.lua";
    PROCESSES = "processes.lua";
    REJECT_LATE = "reject_late.lua";
    RELEASE = "release.lua";
    RENEW = "renew.lua";
    SAVE_SNAPSHOT = "save_snapshot.lua";
    SET_MEMBERS = "set_members.lua";
    UNFOLLOW = "unfollow.lua";
}

/// A call of a script with its arguments.
pub(super) struct Call<'a> {
    shared: &'a Shared,
    script: redis::ScriptInvocation<'static>,
}

impl<'a> Call<'a> {
    pub(super) fn new(shared: &'a Shared, script: &'static Script) -> Self {
        let mut script = script.prepare_invoke();
        script.key(shared.key("")).key(shared.channel(""));
        Self { shared, script }
    }

    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.script.arg(argument);
        self
    }

    /// Runs the script. If Redis does not have it (after a restart), it is sent and called again. As it was not executed then, this cannot
    /// execute it twice.
    pub(super) async fn run<T: FromRedisValue>(&mut self) -> Result<T, StoreError> {
        let script = &self.script;
        let run = |mut connection| async move {
            loop {
                match script.invoke_async(&mut connection).await {
                    // It was removed again between its transfer and its call. The time of the operation limits the repetitions.
                    Err(error) if error.code() == Some("NOSCRIPT") => {}
                    result => return result,
                }
            }
        };
        self.shared.run(run).await
    }
}
