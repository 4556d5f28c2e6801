import StreamFunctions
import StreamModel
import Testing

private func text(_ string: String) -> JSONText {
    JSONText(validated: Array(string.utf8))
}

/// The outcomes of the auth function of the stream port. Without one the node does not ask.
@Suite("Authentication of stream clients")
struct ClientAuthenticationTests {
    @Test(
        "an object with a context is let in with it",
        arguments: [
            (#"{"context":{"user":"a"}}"#, #"{"user":"a"}"#), (#"{"context":5}"#, "5"),
            (#"{"context":false}"#, "false"), (#"{"context":"","x":1}"#, "\"\""),
            (#"{"context":[]}"#, "[]"),
            (#"{"context":1,"context":2}"#, "2"),
        ])
    func context(result: String, context: String) {
        #expect(
            ClientAuthentication(.success(text(result)), failOpen: false)
                == .accepted(context: text(context)))
    }

    @Test(
        "an object without a context is let in without one",
        arguments: [
            "{}", #"{"context":null}"#, #"{"unauthorized":false}"#, #"{"error":null}"#,
            #"{"x":{"context":1}}"#,
        ])
    func noContext(result: String) {
        #expect(
            ClientAuthentication(.success(text(result)), failOpen: false) == .accepted(context: nil)
        )
    }

    @Test(
        "an object that refuses a join is refused with 401, whatever its context",
        arguments: [
            #"{"unauthorized":true}"#, #"{"allowed":false,"context":{}}"#, #"{"error":"no"}"#,
            #"{"authorized":null}"#,
        ])
    func refusingObject(result: String) {
        #expect(
            ClientAuthentication(.success(text(result)), failOpen: false)
                == .refused(status: 401, reason: "unauthorized"))
        #expect(
            ClientAuthentication(.success(text(result)), failOpen: true) == .accepted(context: nil))
    }

    @Test("no result is refused with 401") func noResult() {
        #expect(
            ClientAuthentication(.success(nil), failOpen: false)
                == .refused(status: 401, reason: "no_object"))
    }

    @Test(
        "a string, a number, a boolean and an array are refused with 401",
        arguments: ["\"yes\"", "1", "true", "false", "[]", #"[{"context":1}]"#])
    func noObject(result: String) {
        #expect(
            ClientAuthentication(.success(text(result)), failOpen: false)
                == .refused(status: 401, reason: "no_object"))
    }

    @Test("a function error is refused with 401", arguments: ["invocation_failed", "denied"])
    func functionError(code: String) {
        let outcome = CallOutcome.failure(InvocationError(code: code, message: "secret"))
        #expect(
            ClientAuthentication(outcome, failOpen: false) == .refused(status: 401, reason: code))
    }

    @Test("a function that is not registered is refused with 503") func notRegistered() {
        #expect(
            ClientAuthentication(.failure(.functionNotFound("f")), failOpen: false)
                == .refused(status: 503, reason: "function_not_found"))
    }

    @Test("a timeout is refused with 503") func timeout() {
        #expect(
            ClientAuthentication(.timeout, failOpen: false)
                == .refused(status: 503, reason: "invocation_timeout"))
    }

    @Test(
        "a function whose worker goes is refused with 503",
        arguments: ["invocation_stopped", "channel_send_failed"])
    func stopped(code: String) {
        let outcome = CallOutcome.failure(InvocationError(code: code, message: ""))
        #expect(
            ClientAuthentication(outcome, failOpen: false) == .refused(status: 503, reason: code))
    }

    @Test("the reason that goes to the log is cut") func longReason() {
        let code = String(repeating: "x", count: 1000)
        let outcome = CallOutcome.failure(InvocationError(code: code, message: ""))
        #expect(
            ClientAuthentication(outcome, failOpen: false)
                == .refused(status: 401, reason: String(repeating: "x", count: 64)))
    }

    @Test(
        "with fail_open every failure lets the client in without a context",
        arguments: [
            CallOutcome.success(nil), .success(text("5")), .timeout,
            .failure(.functionNotFound("f")),
            .failure(InvocationError(code: "invocation_failed", message: "")),
        ])
    func failOpen(outcome: CallOutcome) {
        #expect(ClientAuthentication(outcome, failOpen: true) == .accepted(context: nil))
    }

    @Test("with fail_open a context counts as ever") func failOpenContext() {
        #expect(
            ClientAuthentication(.success(text(#"{"context":1}"#)), failOpen: true)
                == .accepted(context: text("1")))
    }
}
