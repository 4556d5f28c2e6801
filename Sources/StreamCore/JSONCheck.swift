internal import CStreamCore
package import StreamModel

/// Takes `text` as JSON if it is one valid value.
package func jsonText(_ text: String) -> JSONText? {
    let bytes = Array(text.utf8)
    let isValid = unsafe bytes.withUnsafeBufferPointer {
        unsafe sc_node_json_valid(sc_bytes(data: $0.baseAddress, size: $0.count))
    }
    return isValid ? JSONText(validated: bytes) : nil
}
