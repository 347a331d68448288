//! What HTTP endpoints and the operator request of rooms. Without a cluster, the hub has all rooms; in a cluster, requests go to the log of the
//! room, whichever process has its members, and lists come from all processes.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::StatusCode;

use crate::io::cluster::{self, RequestError as ClusterRequestError};
use crate::io::http::body::RequestError;
use crate::io::signaling::shared_hub::SharedHub;
use crate::memory_budget::MemoryAccount;
use crate::signaling::broadcast::{AcceptedPost, PostBody, PostError, PostFormat};
use crate::signaling::cluster::{RoomReply, RoomRequest};
use crate::signaling::{
    ClosedRoom, CommandError, ControlSurfaceRoomInfo, CreateRoomOptions, CreatedRoom, Dialect, Hub, OperatorError,
};
use crate::time::WallClock;

const CONTROL_SURFACE: Dialect = Dialect::ControlSurface;

impl From<ClusterRequestError> for RequestError {
    fn from(error: ClusterRequestError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl SharedHub {
    /// Creates a control surface room.
    pub(in crate::io) async fn create_room(
        self: &Arc<Self>,
        options: CreateRoomOptions,
    ) -> Result<CreatedRoom, RequestError> {
        if self.cluster().is_none() {
            return Ok(self.with_hub(|now, hub, _| hub.create_room(now, options))?);
        }
        let open_rooms = cluster::list(self, CONTROL_SURFACE).await?.len();
        let is_random = options.code.is_none();
        let request = self.with_hub(|_, hub, _| hub.plan_create_room(options, open_rooms))?;
        loop {
            match cluster::create(self, CONTROL_SURFACE, request.clone()).await? {
                Some(RoomReply::Created(created)) => return Ok(created?),
                _ if is_random => {}
                _ => return Err(CommandError::CodeTaken.into()),
            }
        }
    }

    /// Closes a control surface room. Returns the number of members.
    pub(in crate::io) async fn close_room(self: &Arc<Self>, code: &str) -> Result<usize, RequestError> {
        if self.cluster().is_none() {
            return Ok(self.with_hub(|now, hub, out| hub.close_room(now, code, out))?);
        }
        self.count(code, RoomRequest::Close { code: code.to_owned() }).await
    }

    /// Removes all parameters of a control surface room. Returns their number.
    pub(in crate::io) async fn clear_parameters(self: &Arc<Self>, code: &str) -> Result<usize, RequestError> {
        if self.cluster().is_none() {
            return Ok(self.with_hub(|now, hub, out| hub.clear_parameters(now, code, out))?);
        }
        self.count(code, RoomRequest::ClearParameters { code: code.to_owned() }).await
    }

    /// Sets a parameter in one control surface room or in all. Returns the number of receivers.
    pub(in crate::io) async fn set_parameter(
        self: &Arc<Self>,
        room: Option<&str>,
        name: &str,
        value: f32,
    ) -> Result<usize, RequestError> {
        if self.cluster().is_none() {
            return Ok(self.with_hub(|now, hub, out| hub.broadcast_param(now, room, name, value, out))?);
        }
        let request = |code| RoomRequest::SetParameter { code, name: name.to_owned(), value };
        self.count_in(room, request).await
    }

    /// Declares the range of a parameter in all control surface rooms, and sets it if there is a value. Returns the number of its receivers.
    pub(in crate::io) async fn declare_range(
        self: &Arc<Self>,
        name: &str,
        range: (f32, f32),
        value: Option<f32>,
    ) -> Result<usize, RequestError> {
        let receivers = self.with_hub(|now, hub, out| hub.declare_range(now, name, range, value, out))?;
        if self.cluster().is_none() {
            return Ok(receivers);
        }
        cluster::publish_range(self, name, range).await?;
        match value {
            Some(value) => self.set_parameter(None, name, value).await,
            None => Ok(0),
        }
    }

    /// Sends a visualization to the members of one control surface room or of all. Returns their number.
    pub(in crate::io) async fn visualize(
        self: &Arc<Self>,
        room: Option<&str>,
        data: Vec<f32>,
    ) -> Result<usize, RequestError> {
        if self.cluster().is_none() {
            return Ok(self.with_hub(|now, hub, out| hub.broadcast_visualization(now, room, &data, out))?);
        }
        self.count_in(room, |code| RoomRequest::Visualize { code, data: data.clone() }).await
    }

    /// Posts to a broadcast room, whose messages are held in `account`. Also returns the Unix time in milliseconds.
    pub(in crate::io) async fn post(
        self: &Arc<Self>,
        account: &Arc<MemoryAccount>,
        source: IpAddr,
        room: &str,
        post: (PostFormat, PostBody<'_>),
    ) -> Result<(Result<AcceptedPost, PostError>, u64), ClusterRequestError> {
        if self.cluster().is_none() {
            return Ok(self.with_hub_for(account, |now, hub, out| {
                (hub.post_to_room(now, source, room, post, out), now.unix_ms())
            }));
        }
        let used = cluster::use_room(self, (Dialect::Broadcast, room)).await?;
        let (planned, now_ms) = self.with_hub_and_rooms(|now, rooms, hub, _| {
            let copy = used.as_ref().and_then(|used| rooms.replica(used.room));
            (hub.plan_post(now, source, room, post, copy.as_deref()), now.unix_ms())
        });
        let request = match planned {
            Ok(request) => request,
            Err(error) => return Ok((Err(error), now_ms)),
        };
        match cluster::to_room(self, (Dialect::Broadcast, room), request).await? {
            RoomReply::Posted(posted) => Ok((posted, now_ms)),
            _ => Err(ClusterRequestError::NoRoom),
        }
    }

    /// Closes a room of any dialect for the operator.
    pub(in crate::io) async fn close_room_of(
        self: &Arc<Self>,
        dialect: Dialect,
        room: &str,
    ) -> Result<ClosedRoom, RequestError> {
        let not_found = || RequestError::from(OperatorError::ROOM_NOT_FOUND);
        if self.cluster().is_none() {
            return Ok(self.with_hub(|now, hub, out| hub.close_room_of(now, dialect, room, out))?);
        }
        let request = RoomRequest::CloseByOperator { room: room.to_owned() };
        match cluster::to_room(self, (dialect, room), request).await {
            Ok(RoomReply::Closed(closed)) => Ok(closed?),
            Ok(_) | Err(ClusterRequestError::NoRoom) => Err(not_found()),
            Err(error) => Err(error.into()),
        }
    }

    /// All control surface rooms in the order of their creation.
    pub(in crate::io) async fn control_surface_rooms(
        self: &Arc<Self>,
    ) -> Result<Vec<ControlSurfaceRoomInfo>, RequestError> {
        if self.cluster().is_none() {
            return Ok(self.with_hub(|_, hub, _| hub.control_surface_rooms()));
        }
        let rooms = cluster::list(self, CONTROL_SURFACE).await?;
        let infos = rooms.into_iter().filter_map(|(room, member_count)| {
            let (code, expires_ms) = (room.names.into_iter().next()?, room.expires_ms?);
            Some(ControlSurfaceRoomInfo { code, member_count, created_ms: room.created_ms, expires_ms })
        });
        Ok(infos.collect())
    }

    /// Reads the rooms of a dialect with `read`: all rooms in one hub, or, in a cluster, each room in a hub of its own.
    pub(in crate::io) async fn read_rooms<T>(
        self: &Arc<Self>,
        dialect: Dialect,
        read: impl Fn(WallClock, &Hub) -> T,
    ) -> Result<Vec<T>, RequestError> {
        if self.cluster().is_none() {
            return Ok(vec![self.with_hub(|now, hub, _| read(now, hub))]);
        }
        Ok(cluster::read_rooms(self, dialect, read).await?)
    }

    /// The sum of what a request returns in one control surface room or in all.
    async fn count_in(
        self: &Arc<Self>,
        room: Option<&str>,
        request: impl Fn(String) -> RoomRequest,
    ) -> Result<usize, RequestError> {
        if let Some(code) = room {
            return self.count(code, request(code.to_owned())).await;
        }
        let mut total = 0;
        for (room, _) in cluster::list(self, CONTROL_SURFACE).await? {
            let Some(code) = room.names.first() else { continue };
            match self.count(code, request(code.clone())).await {
                Ok(count) => total += count,
                // Closed, or full of parameters.
                Err(RequestError { status: StatusCode::NOT_FOUND | StatusCode::INSUFFICIENT_STORAGE, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    async fn count(self: &Arc<Self>, code: &str, request: RoomRequest) -> Result<usize, RequestError> {
        match cluster::to_room(self, (CONTROL_SURFACE, code), request).await {
            Ok(RoomReply::Count(count)) => Ok(count?),
            Ok(_) | Err(ClusterRequestError::NoRoom) => Err(CommandError::RoomNotFound.into()),
            Err(error) => Err(error.into()),
        }
    }
}
