internal import CStreamCore

/// The account of a connection, or of the node itself, as far as the control plane charges it: for events that wait for
/// triggers.
///
/// Safe: the object holds one reference of the account from `init` to `deinit`, and the place of events may be charged
/// from any thread. What is charged is given back at the end.
@safe package final class CoreAccount {
    private let handle: UnsafeMutablePointer<sc_account>
    private var charged: UInt64 = 0

    /// Keeps `borrowed`.
    init(retaining borrowed: UnsafeMutablePointer<sc_account>) {
        _ = unsafe sc_account_retain(borrowed)
        unsafe handle = borrowed
    }

    deinit {
        chargeEvents(0)
        unsafe sc_account_release(handle)
    }

    /// Says how many bytes of events wait now because of the connection.
    package func chargeEvents(_ size: Int) {
        let size = UInt64(size)
        if size > charged {
            unsafe sc_account_charge(handle, SC_PLACE_EVENTS, size - charged)
        } else if size < charged {
            unsafe sc_account_discharge(handle, SC_PLACE_EVENTS, charged - size)
        }
        charged = size
    }
}
