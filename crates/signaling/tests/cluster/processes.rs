//! Cluster that share their rooms through a log in memory. They do what the program does with Redis.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use jamjam_core::time::{Time, WallClock};
use jamjam_signaling::cluster::{
    self, Applied, Command, Plan, Replica, RoomDescription, RoomReply, RoomRequest, SavedClose,
};
use jamjam_signaling::{
    ConnId, CreateRoomOptions, Dialect, DialectSet, Hub, NewConnection, Route, SignalingLimits, route,
};

use crate::client_queues::ClientQueues;

/// A snapshot is written after this number of entries.
const SNAPSHOT_ENTRIES: usize = 3;

/// The limit of wrong passwords per address.
const MAX_WRONG_PASSWORDS: u32 = 100;

/// The log of a room.
pub(crate) struct Log {
    pub(crate) dialect: Dialect,
    pub(crate) description: RoomDescription,
    /// Entries as JSON.
    pub(crate) entries: Vec<String>,
    snapshot: Option<(usize, Vec<u8>)>,
    /// The hash of the room after each entry, of the first process that applied it.
    pub(crate) hashes: BTreeMap<usize, String>,
    /// Whether the room is deleted.
    pub(crate) is_deleted: bool,
}

pub(crate) struct Process {
    pub(crate) number: u32,
    pub(crate) lobby: Hub,
    /// The followed rooms, each with the number of entries that were applied.
    pub(crate) replicas: BTreeMap<u64, (Replica, usize)>,
    pub(crate) rooms: HashMap<ConnId, u64>,
}

/// All processes and logs.
pub(crate) struct Cluster {
    limits: SignalingLimits,
    pub(crate) processes: Vec<Process>,
    pub(crate) logs: BTreeMap<u64, Log>,
    pub(crate) directory: BTreeMap<(Dialect, String), u64>,
    pub(crate) queues: ClientQueues,
    pub(crate) now: Time,
    /// Whether entries are applied by all followers at once. Otherwise, the test applies them with [`Cluster::deliver`].
    pub(crate) is_immediate: bool,
    wrong_passwords: HashMap<IpAddr, u32>,
    requests: u64,
    seed: u64,
    last_conn: u64,
    last_room: u64,
    next_process: u32,
}

pub(crate) fn password_hash(password: &str) -> String {
    format!("hash of {password}")
}

impl Cluster {
    pub(crate) fn new(limits: SignalingLimits, count: u32, seed: u64) -> Self {
        let mut all = Self {
            limits,
            processes: Vec::new(),
            logs: BTreeMap::new(),
            directory: BTreeMap::new(),
            queues: ClientQueues::default(),
            now: Time::from_millis(1),
            is_immediate: true,
            wrong_passwords: HashMap::new(),
            requests: 0,
            seed,
            last_conn: 0,
            last_room: 0,
            next_process: 0,
        };
        for _ in 0..count {
            let process = all.new_process();
            all.processes.push(process);
        }
        all
    }

    fn new_process(&mut self) -> Process {
        let number = self.next_process;
        self.next_process += 1;
        let mut lobby = Hub::new(self.limits.clone(), [u64::from(number), 1, 2, 3]);
        lobby.join_cluster(number);
        Process { number, lobby, replicas: BTreeMap::new(), rooms: HashMap::new() }
    }

    pub(crate) fn clock(&self) -> WallClock {
        self.now.into()
    }

    fn at(&self, conn: ConnId) -> usize {
        self.processes.iter().position(|process| process.number == conn.process()).expect("a process")
    }

    /// A client connects to a process.
    pub(crate) fn connect(&mut self, at: usize, source: IpAddr, url: &str) -> Result<ConnId, String> {
        self.last_conn += 1;
        let conn = ConnId::of_process(self.processes[at].number, self.last_conn);
        self.queues.received.insert(conn, Vec::new());
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let route = route(path, query, DialectSet::default()).map_err(str::to_owned)?;
        let name = match &route {
            Route::Broadcast(params) => params.room.clone().map(|name| (Dialect::Broadcast, name)),
            Route::WebRtc(params) => Some((Dialect::WebRtc, params.room_id.clone())),
            _ => None,
        };
        let room = name.and_then(|name| self.directory.get(&name));
        let connection = NewConnection { source, route, is_forwarded: false };
        let now = self.clock();
        let Process { lobby, replicas, .. } = &mut self.processes[at];
        let copy = room.and_then(|room| replicas.get(room)).map(|(replica, _)| replica);
        let plan = lobby.plan_connect(now, conn, connection, copy, &mut self.queues);
        self.carry_out(at, conn, plan);
        Ok(conn)
    }

    pub(crate) fn text(&mut self, conn: ConnId, text: &str) {
        let (at, now) = (self.at(conn), self.clock());
        let Process { lobby, replicas, rooms, .. } = &mut self.processes[at];
        let parsed = lobby.message_parser(conn).parse(text);
        let copy = rooms.get(&conn).and_then(|room| replicas.get_mut(room)).map(|(replica, _)| replica);
        let plan = lobby.plan_message(now, conn, parsed, copy, &mut self.queues);
        self.carry_out(at, conn, plan);
    }

    pub(crate) fn binary(&mut self, conn: ConnId) {
        let (at, now) = (self.at(conn), self.clock());
        self.processes[at].lobby.on_binary(now, conn, &mut self.queues);
    }

    pub(crate) fn cut(&mut self, conn: ConnId) {
        let (at, now) = (self.at(conn), self.clock());
        self.queues.received.remove(&conn);
        self.processes[at].lobby.on_disconnect(now, conn, &mut self.queues);
        self.append_departures(at);
    }

    fn carry_out(&mut self, at: usize, conn: ConnId, plan: Plan) {
        match plan {
            Plan::Done => {}
            Plan::List(dialect) => {
                let rooms: Vec<_> =
                    self.directory.iter().filter(|((of, _), _)| *of == dialect).map(|(_, room)| *room).collect();
                let rooms: BTreeSet<u64> = rooms.into_iter().collect();
                let rooms: Vec<_> =
                    rooms.iter().map(|room| (self.logs[room].description.clone(), self.members(*room))).collect();
                let now = self.clock();
                self.processes[at].lobby.reply_room_list(now, conn, &rooms, &mut self.queues);
            }
            Plan::Enter { dialect, name, create, password, command } => {
                self.enter(at, conn, &(dialect, name), (create, password), command);
            }
            Plan::Create { mut command, password } => {
                if let Some(password) = password {
                    command.set_password_hash(password_hash(&password));
                }
                assert!(self.create(at, Dialect::Jamjam, command).is_some(), "another room has one of the names");
            }
            Plan::Append(command) => {
                let room = self.processes[at].rooms[&conn];
                self.append(at, room, command);
            }
        }
        self.append_departures(at);
    }

    fn enter(
        &mut self,
        at: usize,
        conn: ConnId,
        key: &(Dialect, String),
        (create, password): (bool, Option<String>),
        command: Command,
    ) {
        let now = self.clock();
        let dialect = key.0;
        let Some(room) = self.find(at, key) else {
            if create {
                self.create(at, dialect, command);
            } else {
                self.processes[at].lobby.on_unknown_room(now, conn, &command, &mut self.queues);
            }
            return;
        };
        let Process { lobby, replicas, .. } = &mut self.processes[at];
        if let Some(hash) = replicas[&room].0.password_hash() {
            let Command::Enter { source, .. } = &command else { panic!("no entrance") };
            let wrong = self.wrong_passwords.entry(*source).or_default();
            let is_limited = *wrong >= MAX_WRONG_PASSWORDS;
            if is_limited || password.is_none_or(|password| password_hash(&password) != hash) {
                *wrong += 1;
                lobby.on_wrong_password(now, conn, &command, is_limited, &mut self.queues);
                return self.unfollow_empty(at, room);
            }
        }
        self.append(at, room, command);
        self.deliver(at, room);
        self.unfollow_empty(at, room);
    }

    /// The room with this name, which the process then follows.
    fn find(&mut self, at: usize, key: &(Dialect, String)) -> Option<u64> {
        let room = *self.directory.get(key)?;
        self.follow(at, room);
        // What is overdue in a room that nobody followed.
        if self.is_due(at, room) {
            self.append(at, room, Command::Due);
            self.deliver(at, room);
            self.unfollow_empty(at, room);
        }
        (!self.logs[&room].is_deleted).then(|| self.follow(at, room))?;
        Some(room)
    }

    fn is_due(&self, at: usize, room: u64) -> bool {
        let replica = self.processes[at].replicas.get(&room);
        replica.and_then(|(replica, _)| replica.next_due_us()).is_some_and(|due| due <= self.now.as_micros())
    }

    pub(crate) fn follow(&mut self, at: usize, room: u64) -> Option<()> {
        let log = self.logs.get_mut(&room)?;
        let Process { lobby, replicas, .. } = &mut self.processes[at];
        if let Entry::Vacant(vacant) = replicas.entry(room) {
            let (from, snapshot) = log.snapshot.as_ref().map_or((0, None), |(from, bytes)| (*from, Some(&**bytes)));
            let parse = |entry: &String| serde_json::from_str(entry).expect("an entry");
            let entries: Vec<cluster::Entry> = log.entries[from..].iter().map(parse).collect();
            let replica = Replica::follow(log.dialect, snapshot, &entries, lobby).expect("a snapshot");
            assert_eq!(log.hashes.get(&log.entries.len()).unwrap_or(&replica.hash(lobby)), &replica.hash(lobby));
            vacant.insert((replica, log.entries.len()));
        }
        self.deliver(at, room);
        Some(())
    }

    /// Retires the replica of a room without local members, and deletes the room if nothing is lost by it.
    pub(crate) fn unfollow_empty(&mut self, at: usize, room: u64) {
        let Process { lobby, replicas, .. } = &mut self.processes[at];
        let Some((replica, applied)) = replicas.get(&room) else { return };
        if !replica.local_members().is_empty() || *applied < self.logs[&room].entries.len() {
            return;
        }
        let is_disposable = replica.is_disposable(lobby);
        if let Some((replica, _)) = replicas.remove(&room) {
            replica.retire(lobby);
        }
        let is_followed = self.processes.iter().any(|process| process.replicas.contains_key(&room));
        if is_disposable && !is_followed {
            self.directory.retain(|_, named| *named != room);
            self.logs.get_mut(&room).expect("a log").is_deleted = true;
        }
    }

    /// Creates a room with its first command, unless another room has one of its names.
    fn create(&mut self, at: usize, dialect: Dialect, command: Command) -> Option<(u64, Option<RoomReply>)> {
        let entry = self.entry(at, command);
        let description = Replica::draft(dialect, &self.processes[at].lobby, &entry);
        let names: Vec<_> = description.names.iter().map(|name| (dialect, name.clone())).collect();
        if names.is_empty() || names.iter().any(|name| self.directory.contains_key(name)) {
            return None;
        }
        self.last_room += 1;
        let room = self.last_room;
        self.directory.extend(names.into_iter().map(|name| (name, room)));
        let entries = vec![serde_json::to_string(&entry).expect("JSON")];
        let (snapshot, hashes) = (None, BTreeMap::new());
        self.logs.insert(room, Log { dialect, description, entries, snapshot, hashes, is_deleted: false });
        let Process { lobby, replicas, .. } = &mut self.processes[at];
        replicas.insert(room, (Replica::new(dialect, lobby), 0));
        let reply = self.deliver(at, room).into_iter().find_map(|applied| applied.reply);
        self.unfollow_empty(at, room);
        Some((room, reply))
    }

    fn entry(&mut self, at: usize, command: Command) -> cluster::Entry {
        self.requests += 1;
        let (request, process) = (self.requests, self.processes[at].number);
        cluster::Entry { request, process, time_us: self.now.as_micros(), seed: [self.seed, request, 3, 4], command }
    }

    /// Appends an entry, which all followers then apply, or in a test with delays later.
    pub(crate) fn append(&mut self, at: usize, room: u64, command: Command) -> Vec<Applied> {
        let entry = serde_json::to_string(&self.entry(at, command)).expect("JSON");
        self.logs.get_mut(&room).expect("a log").entries.push(entry);
        let mut own = Vec::new();
        if self.is_immediate {
            for other in 0..self.processes.len() {
                let applied = self.deliver(other, room);
                if other == at {
                    own = applied;
                }
            }
            (0..self.processes.len()).for_each(|other| self.unfollow_empty(other, room));
        }
        own
    }

    /// Applies the entries that a process has not applied yet, and what follows from them.
    pub(crate) fn deliver(&mut self, at: usize, room: u64) -> Vec<Applied> {
        let (mut all, mut moved) = (Vec::new(), Vec::new());
        loop {
            let Process { lobby, replicas, rooms, .. } = &mut self.processes[at];
            let (Some((replica, applied)), Some(log)) = (replicas.get_mut(&room), self.logs.get_mut(&room)) else {
                break;
            };
            let Some(entry) = log.entries.get(*applied) else { break };
            let entry: cluster::Entry = serde_json::from_str(entry).expect("an entry");
            let effects = replica.apply(lobby, &entry, &mut self.queues);
            *applied += 1;
            // Hashes of large rooms take long.
            if *applied <= 200 || *applied % 64 == 0 {
                let hash = replica.hash(lobby);
                let expected = log.hashes.entry(*applied).or_insert(hash.clone());
                assert_eq!(*expected, hash, "room {room} after entry {applied}: {entry:?}");
                if *applied % SNAPSHOT_ENTRIES == 0 || *applied > 200 {
                    log.snapshot = Some((*applied, replica.snapshot(lobby)));
                }
            }
            if let Some(conn) = effects.entered
                && let Some(old) = rooms.insert(conn, room).filter(|old| *old != room)
            {
                moved.push((conn, old));
            }
            for conn in &effects.left {
                if rooms.get(conn) == Some(&room) && !replica.local_members().contains(conn) {
                    rooms.remove(conn);
                }
            }
            all.push(effects);
        }
        for (conn, old) in moved {
            self.append(at, old, Command::Leave { conn, close: SavedClose::changed_room() });
        }
        self.append_departures(at);
        all
    }

    /// Applies everything, including the entries that follow from it.
    pub(crate) fn deliver_all(&mut self) {
        let rooms: Vec<u64> = self.logs.iter().filter(|(_, log)| !log.is_deleted).map(|(room, _)| *room).collect();
        for room in rooms {
            (0..self.processes.len()).for_each(|at| drop(self.deliver(at, room)));
            if !self.processes.iter().any(|process| process.replicas.contains_key(&room)) {
                self.follow(0, room);
            }
            (0..self.processes.len()).for_each(|at| self.unfollow_empty(at, room));
        }
    }

    /// Ends a process, whose place a new one takes.
    pub(crate) fn kill(&mut self, at: usize) -> Process {
        let new = self.new_process();
        std::mem::replace(&mut self.processes[at], new)
    }

    /// The room of a connection.
    pub(crate) fn rooms_of(&self, conn: ConnId) -> Option<u64> {
        self.processes[self.at(conn)].rooms.get(&conn).copied()
    }

    pub(crate) fn append_departures(&mut self, at: usize) {
        for (conn, close) in self.processes[at].lobby.take_departures() {
            if let Some(room) = self.processes[at].rooms.remove(&conn) {
                self.append(at, room, Command::Leave { conn, close });
            }
        }
    }

    /// Number of members, as the processes count their own.
    pub(crate) fn members(&self, room: u64) -> usize {
        let copies = self.processes.iter().filter_map(|process| process.replicas.get(&room));
        copies.map(|(replica, _)| replica.local_members().len()).sum()
    }

    /// Serves a request for a room at a process. `None` if no room has the name.
    pub(crate) fn request(
        &mut self,
        at: usize,
        dialect: Dialect,
        name: &str,
        request: RoomRequest,
    ) -> Option<RoomReply> {
        let room = self.find(at, &(dialect, name.to_owned()))?;
        let mut applied = self.append(at, room, Command::Request(request));
        applied.extend(self.deliver(at, room));
        self.unfollow_empty(at, room);
        applied.into_iter().find_map(|applied| applied.reply)
    }

    /// Serves a post at a process, for which the room is created if there is none.
    pub(crate) fn post(&mut self, at: usize, name: &str, request: RoomRequest) -> Option<RoomReply> {
        if self.directory.contains_key(&(Dialect::Broadcast, name.to_owned())) {
            return self.request(at, Dialect::Broadcast, name, request);
        }
        self.create(at, Dialect::Broadcast, Command::Request(request))?.1
    }

    pub(crate) fn create_surface_room(&mut self, at: usize, options: CreateRoomOptions) -> Result<RoomReply, String> {
        let open = self.directory.keys().filter(|(dialect, _)| *dialect == Dialect::ControlSurface).count();
        let request = self.processes[at].lobby.plan_create_room(options, open).map_err(|error| error.to_string())?;
        let created = self.create(at, Dialect::ControlSurface, Command::Request(request));
        created.and_then(|(_, reply)| reply).ok_or_else(|| "another room has this code".to_owned())
    }

    /// The numbers of the control surface rooms, by code.
    pub(crate) fn surface_codes(&self) -> Vec<String> {
        let codes = self.directory.keys().filter(|(dialect, _)| *dialect == Dialect::ControlSurface);
        codes.map(|(_, code)| code.clone()).collect()
    }

    /// Runs the timers of all processes and rooms until this time.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            let lobbies = self.processes.iter().filter_map(|process| process.lobby.next_deadline());
            let rooms = self.processes.iter().flat_map(|process| process.replicas.values());
            let rooms = rooms.filter_map(|(replica, _)| replica.next_due_us());
            let rooms = rooms.map(|due| Time::from_nanos(due * 1_000));
            let Some(next) = lobbies.chain(rooms).min().filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            let now = self.clock();
            for at in 0..self.processes.len() {
                if self.processes[at].lobby.next_deadline().is_some_and(|due| due <= now.monotonic) {
                    self.processes[at].lobby.on_deadline(now, &mut self.queues);
                    self.append_departures(at);
                }
                // The follower with the lowest number appends first, and no other one then has to.
                let rooms: Vec<u64> = self.processes[at].replicas.keys().copied().collect();
                for room in rooms {
                    if self.is_due(at, room) {
                        self.append(at, room, Command::Due);
                    }
                }
            }
        }
        self.now = until;
    }
}
