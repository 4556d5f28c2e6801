internal import CStreamCore

extension NodeCore {
    /// The counters of all shards together, by name: what waits by place, then the rows of the core's table in its
    /// order. Blocks for a turn of each shard.
    package func counters() -> [(name: String, value: UInt64)] {
        let all = unsafe sc_node_counters(handle)
        return waiting(all) + rows(all)
    }

    private func rows(_ all: sc_node_counters) -> [(name: String, value: UInt64)] {
        unsafe withUnsafePointer(to: all) { counters in
            (0..<UInt32(SC_COUNTER_COUNT)).map { index in
                let name = unsafe String(cString: sc_counter_row(index).pointee.name)
                return (name, unsafe sc_counter_value(counters, index))
            }
        }
    }

    /// What waits, by place.
    private func waiting(_ all: sc_node_counters) -> [(name: String, value: UInt64)] {
        (0..<SC_PLACE_COUNT.rawValue).map { index in
            let place = sc_place(rawValue: index)
            let name = unsafe String(cString: sc_place_row(place).pointee.name)
            return ("waiting_\(name)_bytes", sc_node_counters_waiting(all, place))
        }
    }
}
