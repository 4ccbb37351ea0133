"""Every bound of the protocol, and what each protects.

A limit that a client must know is told to it in `welcome.limits`; a client never sends what is past one, and the
broker answers what is past one with a code, never with silence. Sizes are bytes, times are seconds,
unless a name says otherwise.
"""

from typing import Final

VERSION: Final = 1
"""The protocol's version, the digit of the first frame."""

PORT_DEFAULT: Final = 5570
"""Where a broker listens for clients unless told otherwise."""

# --- frames -----------------------------------------------------------------------------------------------

FRAMES_MAX: Final = 3
"""Protocol, header, body. More frames is what broke every implementation of the Majordomo protocol's v2."""

HEADER_BYTES_MAX: Final = 1 << 20
"""A header is decoded whole on the broker's one thread: up to 80 ms at this size, if all of it is empty maps."""

GREETING_BYTES_MAX: Final = 16 << 10
"""A header before the login: four times what the longest password takes, and 2 ms of the broker for a stranger."""

BODY_BYTES_MAX: Final = 8 << 20
"""All contents of one envelope. A batch larger than this gains nothing and holds memory thrice (client,
broker, store)."""

FRAME_BYTES_MAX: Final = 9 << 20
"""MAXMSGSIZE of every client socket. libzmq cuts a peer past it without a word, so it lies above what
the codec refuses with one: only what no well-meant client sends is cut."""

LINK_FRAME_BYTES_MAX: Final = 64 << 20
"""MAXMSGSIZE between broker and store. A batch holds whole envelopes up to BATCH_BYTES_MAX and one more."""

# --- messages ---------------------------------------------------------------------------------------------

MESSAGES_PER_SEND_MAX: Final = 1_000
"""Larger batches no longer raise the rate (the store commits many envelopes at once), but delay others."""

MESSAGE_BYTES_MAX: Final = 1 << 20
"""One message's content. Larger things belong in a file whose address is sent."""

RECIPIENTS_PER_MESSAGE_MAX: Final = 1_000
"""One row a recipient is written in one transaction: this bounds what one message can cost."""

RECIPIENTS_PER_SEND_MAX: Final = 10_000
"""The same for a whole envelope: about 50 ms of the store's time."""

CONTENT_TYPE_BYTES_MAX: Final = 127
"""The longest name a media type may have on either side of its slash (RFC 6838, section 4.2)."""

ID_BYTES: Final = 16
"""A message id, an operation id, a stream id: a UUID's size."""

ONCE_BYTES_MAX: Final = 200
"""A `--once` key is hashed into an id; the bound keeps a mistaken file out of a key."""

# --- accounts ---------------------------------------------------------------------------------------------

NAME_PATTERN: Final = r"[a-z0-9][a-z0-9._-]{1,31}"
"""An account's name. Lower case ASCII: two names that look alike must not be two people."""

NAME_CHARS_MAX: Final = 32
"""The longest name; also what a look-up for a name accepts before it is asked of anybody."""

DISPLAY_NAME_CHARS_MAX: Final = 64
"""Shown beside a name, so no longer than a line has room for."""

PASSWORD_CHARS_MIN: Final = 8
"""NIST SP 800-63B's least length for a password that a person chose."""

PASSWORD_BYTES_MAX: Final = 1_024
"""argon2 hashes any length; the bound keeps its cost the same for all."""

TOKEN_BYTES: Final = 32
"""256 random bits: not guessable, so a token needs no slow hash."""

DEVICE_CHARS_MAX: Final = 64
"""What a token's owner calls the machine it is on."""

TOKENS_PER_ACCOUNT_MAX: Final = 1_000
"""The oldest is revoked beyond it: a cron job that logs in every minute must not fill the disk."""

# --- reading ----------------------------------------------------------------------------------------------

PAGE_MESSAGES_MAX: Final = 1_000
"""One page, one answer, one read of the store."""

PAGE_BYTES_MAX: Final = 4 << 20
"""A page ends before the message that would pass this; a single larger one is a page of its own."""

ACKS_PER_REQUEST_MAX: Final = 10_000
"""One update of the store; about 100 KB of header."""

STATUS_IDS_MAX: Final = 1_000
"""Messages asked about in one `status`."""

NAMES_PER_LOOKUP_MAX: Final = 1_000
"""Names in one `lookup`."""

CREDIT_MESSAGES_MAX: Final = 1_000
"""Undelivered credit of one subscription: what may wait in a client's pipe, see SEND_HWM."""

CREDIT_BYTES_MAX: Final = 4 << 20
"""The same in bytes."""

SUBSCRIPTIONS_PER_SESSION_MAX: Final = 8
"""Each is a cursor, a possible page in flight, and credit."""

# --- sessions ---------------------------------------------------------------------------------------------

HEARTBEAT_S: Final = 30.0
"""A client that has said nothing for this long says `ping`. Longer than most NATs' idle time would be useless."""

HEARTBEAT_S_MIN: Final = 1.0
"""A client may ask for a faster beat, not for one that is a load."""

SILENCES_MAX: Final = 3
"""Beats missed before a session is over: one may be lost to a busy machine, three are not."""

GREETING_S_MAX: Final = 30.0
"""From `hello` to a login: a connection that only waits holds 39 KB of libzmq."""

SESSIONS_MAX: Final = 20_000
"""Twice what the benchmark connects; past it `hello` is answered `busy`."""

REQUESTS_IN_FLIGHT_MAX: Final = 256
"""Per session. With credit it stays below SEND_HWM: a client that reads is owed less than the broker's socket holds."""

FETCHES_IN_FLIGHT_MAX: Final = 8
"""Pages that a session may wait for, of PAGE_BYTES_MAX each. With the credit of its subscriptions no more than
UNREAD_BYTES_MAX: who reads is never cut, however slow the line."""

SESSION_BYTES_MAX: Final = 32 << 20
"""Bodies of one session that the broker holds unconfirmed: no one takes the whole budget."""

BROKER_BYTES_MAX: Final = 128 << 20
"""Bodies of all sessions that the broker holds unconfirmed; past it sends are refused `busy`."""

STREAMS_PER_SESSION_MAX: Final = 16
"""A stream is one order of sends; a client needs one, a gateway a few."""

HELD_PER_STREAM_MAX: Final = 64
"""Envelopes waiting behind one whose recipients are being looked up, so that none overtakes it."""

SEND_HWM: Final = 10_000
"""Envelopes waiting for one client's socket. Above all the answers and deliveries that a session may be owed (its
requests in flight and its subscriptions' credit), so that reaching it means that the client has stopped reading."""

RECEIVE_HWM: Final = 256
"""Envelopes of one client waiting for the broker: small, so that back-pressure reaches the client's own queue."""

UNTAKEN_BYTES_MAX: Final = 64 << 20
"""What libzmq may hold of one connection's envelopes, unfinished ones too; past it the connection is cut. libzmq bounds
neither their frames nor, before the last has come, their number: one stranger filled a gigabyte in four seconds."""

STRANGER_BYTES_MAX: Final = 1 << 20
"""The same before a login, when nothing large is to be said: a million empty frames hold up the broker for seconds."""

UNREAD_BYTES_MAX: Final = 64 << 20
"""Answers and deliveries that a client's machine has not acknowledged; past it the connection is cut. Sixteen of the
largest pages: SEND_HWM alone would let forty gigabytes wait for one who asks and never reads."""

CONNECTIONS_BYTES_MAX: Final = 512 << 20
"""Both, of all connections together; past it the largest is cut."""

CONNECTION_IDLE_S_MAX: Final = 120.0
"""A connection from which nothing comes for so long is cut: its session is over after 90 s at most, and libzmq would
keep it for ever. One that has never said anything is cut after GREETING_S_MAX."""

VIOLATIONS_MAX: Final = 8
"""Malformed envelopes before a peer is ignored: a bug shows itself in fewer, a fuzzer doesn't stop."""

REQUEST_S: Final = 30.0
"""How long a client waits for an answer unless told otherwise, and the broker for a worker's."""

# --- attempts ---------------------------------------------------------------------------------------------

LOGIN_FAILURES_MAX: Final = 10
"""Wrong passwords for one account before it must wait; one is given back every LOGIN_FAILURE_S."""

LOGIN_FAILURE_S: Final = 6.0
"""Ten guesses a minute, 14,000 a day: nothing against a password worth the name."""

PEER_LOGIN_FAILURES_MAX: Final = 100
"""The same for one address, which may be many people behind one NAT; one back every PEER_LOGIN_FAILURE_S."""

PEER_LOGIN_FAILURE_S: Final = 0.6
"""A hundred a minute."""

UNKNOWN_NAMES_MAX: Final = 2_000
"""Names that don't exist, asked for by one account: two batches of typing errors, not a dictionary."""

UNKNOWN_NAME_S: Final = 0.1
"""Ten a second come back."""

REGISTRATIONS_PER_PEER_MAX: Final = 2_000
"""Accounts made from one address at once: a school's first morning, a demo's 1,196 people; more come back slowly."""

REGISTRATION_S: Final = 1.0
"""One a second comes back."""

# --- links ------------------------------------------------------------------------------------------------

BATCH_MESSAGES_MAX: Final = 10_000
"""Messages in one batch to the store, before a further envelope starts the next."""

BATCH_BYTES_MAX: Final = 16 << 20
"""Bodies in one batch to the store, likewise."""

BATCHES_UNCONFIRMED_MAX: Final = 16
"""Batches kept for replay. A few keep the store busy; what waits meanwhile makes the next batch larger."""

LINK_BEAT_S: Final = 1.0
"""Between two signs of life on a link to a worker."""

LINK_SILENCE_S_MAX: Final = 5.0
"""A worker silent for this long is taken for dead; its work goes to another, or again to its successor."""

AUTH_CAPACITY: Final = 64
"""Requests one authentication worker may hold: its thread pool and a queue that keeps it busy."""

AUTH_WAITING_MAX: Final = 4_096
"""Requests waiting for a free worker; past it `busy`."""

QUERIES_WAITING_MAX: Final = 4_096
"""Reads of the store under way; past it `busy`."""

NAME_CACHE_MAX: Final = 200_000
"""Names the broker remembers with their account numbers; about 100 bytes each."""

MAILBOX_UNREAD_MAX: Final = 10_000_000
"""Unread messages of one account; `mailbox_full` past it. Ten million rows are a mistake, not a mailbox."""

SESSION_CHECK_S: Final = 60.0
"""How often open sessions are held against the accounts again: a token may end without the broker being asked."""
