import StreamModel
import Testing

private final class Packet: CallPayload {
    let data: JSONText

    init(data: JSONText) { self.data = data }

    var outcome: CallOutcome { .success(data) }
}

@Suite("Calls and how they end")
struct CallOutcomeTests {
    @Test("a call whose time is over ends with invocation_timeout") func timeout() {
        guard case .failure(let error) = CallOutcome.timeout else {
            Issue.record("no failure")
            return
        }
        #expect(
            error == InvocationError(code: "invocation_timeout", message: "Invocation timed out"))
        #expect(error.isTimeout)
    }

    @Test(
        "nobody was there to answer",
        arguments: [
            "function_not_found", "invocation_timeout", "invocation_stopped", "channel_send_failed",
        ])
    func unavailable(code: String) {
        #expect(InvocationError(code: code, message: "").isUnavailable)
    }

    @Test(
        "somebody answered", arguments: ["invocation_failed", "payload_too_large", "FORBIDDEN", ""])
    func available(code: String) {
        let error = InvocationError(code: code, message: "")
        #expect(!error.isUnavailable)
        #expect(!error.isTimeout)
    }

    @Test("a function that nobody serves is named") func notFound() {
        #expect(
            InvocationError.functionNotFound("a\"b")
                == InvocationError(code: "function_not_found", message: "Function a\"b not found"))
    }

    @Test("only the text false is false") func isFalse() {
        for text in ["true", "null", "0", "\"false\"", "\"\"", "{}", "[false]"] {
            #expect(!JSONText(validated: Array(text.utf8)).isFalse)
        }
        #expect(JSONText(validated: Array("false".utf8)).isFalse)
    }

    @Test("only the text null is null") func isNull() {
        for text in ["false", "\"null\"", "[null]"] {
            #expect(!JSONText(validated: Array(text.utf8)).isNull)
        }
        #expect(JSONText.null.isNull)
    }

    @Test("the input of a call is the data of its message, or the text") func input() {
        let text = JSONText(validated: Array("[1]".utf8))
        #expect(CallInput.message(Packet(data: text)).text == text)
        #expect(CallInput.text(text).text == text)
    }
}
