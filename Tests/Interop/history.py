"""What happened to the groups of a stream, and whether one connection saw exactly that."""

import collections

import orjson


class Unfaithful(AssertionError):
    """A connection saw something else than what happened."""


def require(condition, *what):
    if not condition:
        raise Unfaithful(" ".join(str(part) for part in what))


Answer = collections.namedtuple("Answer", "writer function group item old new payload")


class Frame:
    """A parsed frame with its text. Two receivers of one event get the same text, byte by byte."""

    __slots__ = ("data", "group", "item", "kind", "text", "timestamp")

    def __init__(self, text):
        message = orjson.loads(text)
        event = message["event"]
        self.text = text
        self.timestamp, self.group, self.item = message["timestamp"], message["groupId"], message["id"]
        self.kind = event["type"]
        self.data = event["event"] if self.kind == "event" else event.get("data")


class Group:
    """The frames of one group in their one order, and the state after each of them."""

    def __init__(self, frames):
        self.frames = frames
        self.place = {frame.text: index for index, frame in enumerate(frames)}
        require(len(self.place) == len(frames), "a frame was seen twice")
        state = {}
        self.states = [()]  # The values in the order of their creation, before and after each frame.
        self.newest = [0]  # The greatest time stamp so far.
        self.of_item = collections.defaultdict(list)
        for frame in frames:
            if frame.kind == "delete":
                del state[frame.item]
            elif frame.kind != "event":
                state[frame.item] = frame.data
            changed = frame.kind != "event"
            self.states.append(tuple(state.values()) if changed else self.states[-1])
            self.newest.append(max(self.newest[-1], frame.timestamp))
            if frame.item is not None:
                self.of_item[frame.item].append(frame)

    def value(self, item, place):
        """The value of `item` after the first `place` of its own frames."""
        for frame in reversed(self.of_item[item][:place]):
            if frame.kind != "event":
                return None if frame.kind == "delete" else frame.data
        return None


class History:
    """The order of all changes as one witness saw it, held against the answers of the writers."""

    def __init__(self, witness, answers):
        frames = collections.defaultdict(list)
        for text in witness:
            frame = Frame(text)
            if frame.kind == "sync":
                require(frame.group not in frames, "a second sync of", frame.group)
                require(frame.data == [], "the witness came late")
                frames[frame.group] = []
            else:
                require(frame.group in frames, "an event before its sync:", text)
                frames[frame.group].append(frame)
        self.groups = {name: Group(frames) for name, frames in frames.items()}
        by_group = collections.defaultdict(list)
        for answer in answers:
            by_group[answer.group].append(answer)
        require(by_group.keys() <= self.groups.keys(), "a group was not seen")
        for name, group in self.groups.items():
            check_answers(group, by_group[name])

    def follow(self, texts, item_only=False, to_end=False):
        """Holds what one connection saw against the history. `item_only`: it joined items, not groups.

        Returns how many events it saw. `to_end`: it stayed, so it must have seen the last one.
        """
        by_group = collections.defaultdict(list)
        for text in texts:
            frame = Frame(text)
            require(frame.group in self.groups, "a group nobody joined:", text)
            by_group[(frame.group, frame.item) if item_only else frame.group].append(frame)
        events = 0
        for key, frames in by_group.items():
            if item_only:
                events += follow_item(self.groups[key[0]], key[1], frames)
            else:
                events += follow_group(self.groups[key], frames, to_end)
        return events


def check_answers(group, answers):
    """Every answered change is there once, the old value of each is what was there before it, the
    stamps of an item grow, and the changes of one writer keep their order."""
    changes = {}
    for number, answer in enumerate(answers):
        if answer.function == "stream::delete":
            if answer.old is None:
                continue  # There was nothing to delete, and nothing to tell.
            key = "delete", orjson.dumps(answer.old)
        elif answer.function == "stream::send":
            key = "event", orjson.dumps(answer.payload)
        else:
            key = "create" if answer.old is None else "update", orjson.dumps(answer.new)
        require(key not in changes, "two answers tell the same change:", key)
        changes[key] = number, answer
    state, stamps, last_of_writer = {}, {}, {}
    for frame in group.frames:
        number, answer = changes.pop((frame.kind, orjson.dumps(frame.data)), (None, None))
        require(answer is not None, "nobody was answered this, or it came twice:", frame.text)
        require(answer.item == frame.item, "another item:", frame.text)
        if frame.kind != "event":
            require(state.get(frame.item) == answer.old, "not the next change of its item:", frame.text)
            state[frame.item] = answer.new
        require(last_of_writer.get(answer.writer, -1) < number, "the writer sent it earlier:", frame.text)
        last_of_writer[answer.writer] = number
        if frame.item is not None:
            require(stamps.get(frame.item, 0) < frame.timestamp, "the stamp did not grow:", frame.text)
            stamps[frame.item] = frame.timestamp
    require(not changes, len(changes), "answered changes were never seen, one is", next(iter(changes), None))


def first_event(frames):
    """The text of the event that comes next, or None when a sync does, or nothing."""
    following = next(iter(frames), None)
    return None if following is None or following.kind == "sync" else following.text


def follow_group(group, frames, to_end):
    """Syncs and events of a member of the group: each sync is a state that was, and after it comes
    what came after that state, each frame once. Syncs of single items may stand between."""
    place = seen = 0
    synced = None
    stamps = {}
    for index, frame in enumerate(frames):
        if frame.kind == "sync" and frame.item is None:
            later = first_event(f for f in frames[index + 1 :] if f.kind != "sync" or f.item is None)
            if later is not None:
                require(later in group.place, "an event that never was:", later)
                start = group.place[later]
            else:
                places = range(place, len(group.states))
                start = next((p for p in places if list(group.states[p]) == frame.data), None)
                require(start is not None, "a state that never was:", frame.text)
            require(start >= place, "a sync that goes back:", frame.text)
            require(list(group.states[start]) == frame.data, "a sync of another state:", frame.text)
            require(frame.timestamp >= group.newest[start], "a sync older than its content")
            place, synced = start, frame.timestamp
        elif frame.kind == "sync":
            require(synced is not None, "an item's sync before the group's:", frame.text)
            before = [f for f in group.of_item[frame.item] if group.place[f.text] < place]
            require(group.value(frame.item, len(before)) == frame.data, "a sync of another state")
            require(stamps.get(frame.item, 0) < frame.timestamp, "a sync that did not grow")
            stamps[frame.item] = frame.timestamp
        else:
            require(synced is not None, "an event before the sync:", frame.text)
            require(place < len(group.frames), "an event that never was:", frame.text)
            expected = group.frames[place]
            require(frame.text == expected.text, "expected", expected.text, "got", frame.text)
            if frame.item is not None:
                newest = max(synced, stamps.get(frame.item, 0))
                require(frame.timestamp > newest, "a stamp that did not grow:", frame.text)
                stamps[frame.item] = frame.timestamp
            place += 1
            seen += 1
    require(not to_end or place == len(group.frames), "ended at", place, "of", len(group.frames))
    return seen


def follow_item(group, item, frames):
    """The same for somebody who joined one item."""
    require(item is not None, "a frame of no item for somebody who joined one")
    own = group.of_item[item]
    place_of = {frame.text: index for index, frame in enumerate(own)}
    place = seen = 0
    stamp = None
    for index, frame in enumerate(frames):
        if frame.kind == "sync":
            later = first_event(frames[index + 1 :])
            if later is not None:
                require(later in place_of, "an event that never was:", later)
                start = place_of[later]
            else:
                places = range(place, len(own) + 1)
                start = next((p for p in places if group.value(item, p) == frame.data), None)
                require(start is not None, "a state that never was:", frame.text)
            require(start >= place, "a sync that goes back:", frame.text)
            require(group.value(item, start) == frame.data, "a sync of another state:", frame.text)
            require(start == 0 or frame.timestamp > own[start - 1].timestamp, "a sync that did not grow")
            place, stamp = start, frame.timestamp
        else:
            require(stamp is not None, "an event before the sync:", frame.text)
            require(place < len(own), "an event that never was:", frame.text)
            require(frame.text == own[place].text, "expected", own[place].text, "got", frame.text)
            require(frame.timestamp > stamp, "a stamp that did not grow:", frame.text)
            stamp = frame.timestamp
            place += 1
            seen += 1
    return seen
