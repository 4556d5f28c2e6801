// Every limit of the core with what happens at it. Those that a user may set are defaults here.
#ifndef CSTREAM_LIMITS_H
#define CSTREAM_LIMITS_H

/// Containers open at once in a message, counted from its root. Deeper: refused.
#define SC_JSON_DEPTH_MAX 127
/// Depth of a stored value, so that every frame built around it stays under SC_JSON_DEPTH_MAX.
#define SC_VALUE_DEPTH_MAX 124
/// Bytes of a stream, group or item name, of a subscription, function or trigger id. Longer: refused.
#define SC_NAME_SIZE_MAX 256
/// Characters, in bytes, of the id that a caller gives a call. Longer: the call is answered `invalid_message`, under the
/// beginning of the id.
#define SC_INVOCATION_ID_SIZE_MAX 1024
/// Bytes of a stored value. Bigger: refused.
#define SC_VALUE_SIZE_MAX (16u << 20)
/// Payload bytes of one inbound WebSocket frame. Bigger: closed with 1009.
#define SC_FRAME_SIZE_MAX (16u << 20)
/// Payload bytes of one inbound WebSocket message. Bigger: closed with 1009.
#define SC_MESSAGE_SIZE_MAX (64u << 20)
/// A message to a worker of which nothing is known, and to one whose client is Python's, of an unknown version.
#define SC_UNKNOWN_MESSAGE_SIZE_MAX (16u << 20)
#define SC_PYTHON_MESSAGE_SIZE_MAX (1u << 20)
/// Payload bytes of one inbound message of a stream client. Bigger: closed with 1009.
#define SC_CLIENT_MESSAGE_SIZE_MAX (64u << 10)
/// Bytes of the data of a `sync`: the values of a group, or what an overriding function has answered. It leaves in
/// fragments. More: the join is refused.
#define SC_SYNC_SIZE_MAX (128u << 20)
/// Bytes that wait for a stream client beyond which it is closed at once, with 1013.
#define SC_CLIENT_HARD_SIZE_MAX (64u << 20)
/// Bytes for a stream client that the kernel holds before they are sent. More wait in the node, where they count.
#define SC_CLIENT_UNSENT_SIZE (64u << 10)
/// Bytes of pongs that one send may take along. With more only the last ping is answered.
#define SC_PONGS_SIZE_MAX 4096u
/// Messages that have waited of all connections which one turn handles, and of one connection before those of the others.
/// The rest follows in the next turns.
#define SC_PARKED_PER_TURN 1024u
#define SC_PARKED_PER_SLICE 256u
/// Connections whose patience one turn looks at. The others follow in the next turns.
#define SC_SWEPT_PER_TURN 4096u
/// Bytes of log records in one message. More: dropped, and counted.
#define SC_TELEMETRY_SIZE_MAX (1u << 20)
/// Payload bytes of one outbound frame. A bigger message leaves in fragments.
#define SC_FRAGMENT_SIZE_MAX (8u << 20)
/// Bytes of messages that wait for their turn before their connection is read no further.
#define SC_PARKED_SIZE_MAX (1u << 20)
/// Bytes of large `sync`s that clients have yet to take, of all versions of all groups. With more, joins wait.
#define SC_SNAPSHOTS_SIZE_MAX (256u << 20)
/// Upgrades that wait for an auth function. More: 503, to workers 1012.
#define SC_HELD_UPGRADES_MAX 4096u
/// Peers over a limit that are answered at a time, on the stream port and on the worker ports. More: the stream port closes
/// them without an answer, the worker ports accept no more.
#define SC_TURNED_AWAY_MAX 32u
/// Pause between two workers that a shard turns away with 1012.
#define SC_TURN_AWAY_PACE_MS 20u
/// Bytes of an HTTP request head. More: 431.
#define SC_HTTP_HEAD_SIZE_MAX (16u << 10)
/// Header fields of an HTTP request. More: 431.
#define SC_HTTP_HEADER_COUNT_MAX 100
/// Bytes of a TLS handshake that come from a peer, all its certificates among them, and of its first message, for which
/// OpenSSL takes memory before it is there. More: the handshake fails.
#define SC_TLS_HANDSHAKE_SIZE_MAX (64u << 10)
#define SC_TLS_HELLO_SIZE_MAX (16u << 10)
/// Bytes of a TLS record on the wire, without its header. Longer: the connection ends.
#define SC_TLS_RECORD_SIZE_MAX ((16u << 10) + 2048)
/// Time that one turn of a shard spends on TLS handshakes. The others wait for the next turn.
#define SC_TLS_HANDSHAKE_NS_PER_TURN 2000000u
/// Bytes sealed for one send. What the socket does not take of them can no longer be dropped.
#define SC_TLS_SEND_SIZE_MAX (64u << 10)
/// How long a TLS session may be resumed, and how often its tickets get a new key. So many keys open tickets.
#define SC_TLS_SESSION_SECONDS 7200u
#define SC_TLS_TICKET_KEY_SECONDS 3600u
#define SC_TLS_TICKET_KEYS 3u
/// Sends put on a ring before their completions are looked at.
#define SC_LOOP_SENDS_PER_SLICE 256
/// Sends to stream clients that one turn starts. The rest leaves in the next turns, with what those bring.
#define SC_CLIENT_SENDS_PER_TURN 512u
/// Bytes handed to one socket in one send.
#define SC_LOOP_SEND_SIZE_MAX (256u << 10)
/// Separate pieces in one send.
#define SC_LOOP_SEND_PIECES_MAX 16
/// Completions run in one turn of a loop. The rest waits for the next turn.
#define SC_LOOP_COMPLETIONS_PER_TURN 1024
/// Messages run in one turn of a loop. The rest waits for the next turn.
#define SC_LOOP_MESSAGES_PER_TURN 4096
/// Sockets and listeners of one loop. More: refused with -ENFILE.
#define SC_LOOP_SOCKET_COUNT_MAX (1u << 20)
/// The slice that the thread of a loop asks the scheduler for, if not told otherwise.
#define SC_LOOP_SLICE_US 6000u
/// Receives of one turn that take longer make a loop contended: each socket then gets one buffer a turn.
#define SC_LOOP_CONTENDED_US 1000u
/// How long a shard, or the load generator, may look for work before it sleeps: the setting `poll_us`, `--poll`.
#define SC_LOOP_POLL_US_MAX 1000u
/// How often the `sync` of a join may come too late for the events that follow it. Then the client is closed with 1013.
#define SC_JOIN_ATTEMPTS_MAX 3u
/// How long a start waits for an address that is in use.
#define SC_LISTEN_PATIENCE_MS 500u
/// Descriptors that connections leave to the process, and to each shard: for its ring, its listener and the files of its
/// store, the next of each among them.
#define SC_DESCRIPTORS_KEPT_BACK 32u
#define SC_DESCRIPTORS_KEPT_BACK_A_SHARD 12u
/// A node starts with no fewer for its connections and for peers that it turns away.
#define SC_DESCRIPTORS_FOR_PEERS_MIN 16u
/// Pause of a listener after the process ran out of descriptors or memory.
#define SC_LOOP_ACCEPT_RETRY_MS 50
/// A write with its sync that takes longer makes a loop try whether a sync of its own is faster,
#define SC_LOOP_FLUSH_LATE_US 1000u
/// and so many bytes may take a microsecond more.
#define SC_LOOP_FLUSH_BYTES_PER_US 256u
/// Writes until the next trial when it was not. There is little to lose: all of them are slow then.
#define SC_LOOP_TRIAL_PAUSE_WRITES 8u
/// Writes for which a loop keeps to it when it was, and twice as many when it soon is so again,
#define SC_LOOP_LINKED_WRITES_MIN 64u
/// at most.
#define SC_LOOP_LINKED_WRITES_MAX 4096u
/// Bytes of a segment of the log. A batch that is larger gets a larger one.
#define SC_SEGMENT_SIZE (32u << 20)
/// Bytes of the first one, so that many shards start on a small disk, and the least that one shrinks to when the disk has no
/// room for more. Each is up to four times as large as the one before.
#define SC_SEGMENT_SIZE_LEAST (64u << 10)
#define SC_SEGMENT_GROWTH 4u
/// How long a record is refused by its size after one of the size found no space.
#define SC_LOG_TOO_LARGE_MS 5000u
/// A log is written by whole ones of these: the kernel's pages, and the blocks of most file systems and disks.
#define SC_LOG_PAGE_SIZE 4096u
/// Bytes of a batch given to the disk at once. The rest of a larger one follows, with a sync of its own.
#define SC_LOG_PIECE_SIZE (4u << 20)
/// Bytes that wait for the disk in one shard. Over it no call is started there: callers are paused.
#define SC_LOG_WAITING_MAX (4u << 20)
/// Bytes of the values that were replaced and may have to come back. Over it no call is started either: an update of a
/// large value waits for the disk with few bytes, and keeps many.
#define SC_LOG_ROLLBACK_MAX (16u << 20)
/// Values from this size on are logged as the operations that made them, where these take at most one part in so many.
/// Measured with increments of one item: at 1 KiB 3 us each instead of 18, at 64 KiB 200 instead of 650.
#define SC_LOG_UPDATE_SIZE_LEAST (1u << 10)
#define SC_LOG_UPDATE_RATIO 8u
/// Bytes that a replay reads to apply the operations of a log, as sc_operations counts them. Over it a snapshot is due. Over
/// so many times as much, which is enough for a snapshot beside full load, values are logged again. A start takes one to
/// three seconds for each gigabyte.
#define SC_LOG_REPLAY_WORK_MAX (1ull << 30)
#define SC_LOG_REPLAY_WORK_FACTOR 4u
/// How far ahead of what was given out a batch reserves time stamps. After a crash, stamps go on from there.
#define SC_LOG_STAMP_RESERVE_MS 1000u
/// Bytes of a snapshot put together in one turn of a loop.
#define SC_SNAPSHOT_PIECE_SIZE (256u << 10)
/// The same while a log is opened: each is a write and a sync that the start waits for.
#define SC_SNAPSHOT_OPENING_SIZE (4u << 20)
/// Items looked at for a snapshot in one turn of a loop.
#define SC_SNAPSHOT_ITEMS_PER_TURN 1024u
/// Items looked at in one turn of a loop to keep the store's memory dense,
#define SC_COMPACT_ITEMS_PER_TURN 512u
/// bytes moved for that,
#define SC_COMPACT_BYTES_PER_TURN (128u << 10)
/// and bytes of emptied pages given back to the kernel.
#define SC_COMPACT_RETURNED_PER_TURN (1u << 20)
/// The next batch waits for callers that return as soon as they are answered: as long as one returns within the time
/// that the last batch took, at most so many times as long,
#define SC_LOG_DELAY_FACTOR 3u
/// and at most this.
#define SC_LOG_DELAY_MS 2u
/// Callers of one log that are watched for that.
#define SC_LOG_CALLERS_MAX 1024u
/// Whether the delay answers more is tried by epochs of so many batches and milliseconds at least,
#define SC_LOG_TRIAL_EPOCH_BATCHES 16u
#define SC_LOG_TRIAL_EPOCH_MS 10u
/// so many with it and as many without, in turn,
#define SC_LOG_TRIAL_EPOCHS 5u
/// one trial in so many times as long as it takes.
#define SC_LOG_TRIAL_ROUND 20u
/// The other way is taken when the median of its epochs answers more by one part in so many.
#define SC_LOG_TRIAL_GAIN 16u
/// Descriptors that a store has open at once: of the node, its directory and lock,
#define SC_STORE_DESCRIPTORS 2u
/// and of each shard: segments in use, ahead and behind, a snapshot, and one that is read at a start.
#define SC_STORE_SHARD_DESCRIPTORS 5u
/// How often a log that is written looks whether its directory and its file still have a name.
#define SC_LOG_LOOK_MS 1000u
/// A clock before 2000 or after 2200 (ms) is one that nobody has set: a start is refused, and while a node runs its time
/// stamps only count on until the clock has caught up.
#define SC_CLOCK_MS_MIN 946684800000u
#define SC_CLOCK_MS_MAX 7258118400000u
/// Pause before files are prepared again after an error such as a full disk.
#define SC_LOG_RETRY_MS 500u
/// Bytes of a group put together in one turn of a loop, for the answer of a list or for a `sync`,
#define SC_GROUP_STEP_SIZE (256u << 10)
/// and items looked at for it. A group that takes no more is read at once.
#define SC_GROUP_STEP_ITEMS 4096u
/// Names of groups sorted, or written, in one step of a list of them; it takes steps for a slice of time.
#define SC_NAMES_PER_STEP 1024u
/// Bytes of a group from which on its `sync` is kept for those who join behind the next changes,
#define SC_SYNC_KEPT_SIZE_MIN (16u << 10)
/// so long, and as long as the frames of those changes are no more than it.
#define SC_SYNC_KEPT_MS 2000u
/// Subscriptions of a connection that are looked for in its lists. With more it has an index.
#define SC_SUBSCRIPTIONS_LISTED_MAX 16u
/// Subscriptions of connections that have gone which end at once, twice in a turn, and how many of one connection before
/// those of the others. The rest ends in the next turns.
#define SC_LEAVES_AT_ONCE 256u
#define SC_LEAVES_PER_SLICE 64u
/// Joins that a `sync` which has been made lets go on in one turn.
#define SC_JOINS_PER_TURN 256u
/// Bytes of the results of one connection in the control plane's hands. With more, it is read no further.
#define SC_RESULTS_SIZE_MAX (8u << 20)
/// Bytes of events on their way from one shard to another. With more, no change starts on the shard that sends them.
#define SC_BATCHES_SIZE_MAX (8u << 20)
/// Bytes of the calls of one connection that are at the owners of their groups. With more, its next ones wait with it.
#define SC_REQUESTS_SIZE_MAX (1u << 20)
/// Time that one turn of a shard spends on calls that waited, as far as they are long, and the share of it that each
/// connection gets before the others,
#define SC_QUEUED_WORK_NS_PER_TURN 2000000u
#define SC_CALL_SLICE_NS 1000000u
/// and how many of them it runs. The rest waits for the next turn.
#define SC_QUEUED_CALLS_PER_TURN 1024u
/// Bytes of a value, or of an answer, from which on a call counts as long.
#define SC_LONG_CALL_SIZE (64u << 10)
/// Shards of a node. More: refused at start.
#define SC_SHARD_COUNT_MAX 64

_Static_assert(SC_TLS_SESSION_SECONDS <= SC_TLS_TICKET_KEY_SECONDS * (SC_TLS_TICKET_KEYS - 1),
               "the key of a ticket is there as long as its session");
_Static_assert(SC_LOG_PIECE_SIZE % SC_LOG_PAGE_SIZE == 0, "pieces end with pages");
_Static_assert(SC_VALUE_DEPTH_MAX + 3 <= SC_JSON_DEPTH_MAX, "a frame adds up to three levels");
_Static_assert(SC_VALUE_SIZE_MAX <= SC_MESSAGE_SIZE_MAX, "a value must fit a message");

#endif
