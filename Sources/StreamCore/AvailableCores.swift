internal import CStreamCore

/// The cores that this process may run on.
package func availableCores() -> Int {
    Int(sc_available_cores())
}
