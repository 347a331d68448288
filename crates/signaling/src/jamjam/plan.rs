//! What a message leaves to be done in the log of a shared room.

use super::membership::{check_requested, reject_password, room_info, room_list};
use super::{ClientMessage, JamjamDialect};
use crate::cluster::{Command, Entrance, Plan, RoomDescription, is_member, plan_append};
use crate::connection_context::{ConnectionContext, MAX_JOIN_DEBT};
use crate::dialect::Dialect;
use crate::json::MessageError;

impl JamjamDialect {
    /// Handles a message in a cluster: what it changes is left to the log.
    pub(crate) fn plan(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        message: Result<ClientMessage, &'static str>,
        text: &str,
    ) -> Result<Option<Plan>, MessageError> {
        let mut message = self.admit(ctx, message)?;
        let (conn, source, is_newer) = (ctx.conn, ctx.source, ctx.is_newer());
        let enter = |message| {
            let entrance = Box::new(Entrance::Jamjam { message, is_newer });
            Command::Enter { conn, source, entrance }
        };
        Ok(Some(match &mut message {
            ClientMessage::CreateRoom { password, .. } => {
                let password = password.take();
                Plan::Create { command: enter(message), password }
            }
            ClientMessage::JoinRoom { room_id, password, .. } => {
                let (name, password) = (room_id.clone(), password.take());
                check_requested(ctx, MAX_JOIN_DEBT)?;
                Plan::Enter { dialect: Dialect::Jamjam, name, create: false, password, command: enter(message) }
            }
            ClientMessage::ListRooms => Plan::List(Dialect::Jamjam),
            ClientMessage::LeaveRoom if !is_member(ctx) => return Ok(None),
            _ => return plan_append(ctx, text),
        }))
    }

    /// Replies with a list of rooms that the log of no room contains.
    pub(crate) fn reply_room_list(ctx: &mut ConnectionContext<'_>, rooms: &[(RoomDescription, usize)]) {
        let info = |(room, members): &(RoomDescription, usize)| {
            room_info(ctx, (&room.names, room.display_name.as_deref()), *members, room.has_password)
        };
        let list = room_list(rooms.iter().map(info));
        ctx.reply_requested(list);
    }

    /// Rejects a `JoinRoom` whose password is wrong, or was not compared because too many passwords of its address were wrong.
    pub(crate) fn on_wrong_password(&mut self, ctx: &mut ConnectionContext<'_>, is_limited: bool) -> MessageError {
        reject_password(ctx, &mut self.rooms, is_limited)
    }

    /// What the password of the only room is verified with.
    pub(crate) fn password_hash(&self) -> Option<&str> {
        self.rooms.iter().next()?.data.as_deref()
    }
}
