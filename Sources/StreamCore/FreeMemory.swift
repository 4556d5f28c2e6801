internal import CStreamProcess

/// Gives pages of the heap that hold nothing back to the kernel. Others wait for the heap meanwhile: it is for what was
/// large, and not for a thread that serves.
package func returnFreeMemory() {
    sc_process_return_memory()
}
