import StreamModel
import StreamTriggers
import Testing

@Suite("Log records of OpenTelemetry")
struct TelemetryLogRecordTests {
    private let moment = Moment(uptime: .milliseconds(5), unix: 1_767_225_600_123)
    private let now: UInt64 = 1_767_225_600_123_000_000

    private func records(_ export: String) -> [TelemetryLogRecord] {
        Array(TelemetryLogReader(text(export), at: moment))
    }

    private func record(_ record: String, resource: String? = nil, scope: String? = nil) throws
        -> TelemetryLogRecord
    {
        let resource = resource.map { "\"resource\":\($0)," } ?? ""
        let scope = scope.map { "\"scope\":\($0)," } ?? ""
        let all = records(
            "{\"resourceLogs\":[{\(resource)\"scopeLogs\":[{\(scope)\"logRecords\":[\(record)]}]}]}"
        )
        return try #require(all.count == 1 ? all.first : nil)
    }

    /// As the Python client's logger sends it.
    @Test("every field is read") func all() throws {
        let record = try record(
            #"""
            {"timeUnixNano":"1767225600000000001","observedTimeUnixNano":"1767225600000000002",
            "severityNumber":13,"severityText":"WARN","body":{"stringValue":"hot \"x\""},
            "traceId":"0AF7651916CD43DD8448EB211C80319C","spanId":"b7ad6b7169203331",
            "attributes":[{"key":"service.name","value":{"stringValue":"a"}},{"key":"n","value":{"intValue":"5"}}]}
            """#,
            resource: #"{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]}"#,
            scope: #"{"name":"lib","version":"1.2"}"#)
        #expect(
            record.json
                == text(
                    #"{"timestamp_unix_nano":1767225600000000001,"observed_timestamp_unix_nano":1767225600000000002,"severity_number":13,"severity_text":"WARN","body":"hot \"x\"","attributes":{"service.name":"a","n":5},"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","resource":{"service.name":"shop"},"service_name":"shop","instrumentation_scope_name":"lib","instrumentation_scope_version":"1.2"}"#
                ))
    }

    @Test("of an empty record every key is there, and unknown ids and scopes are empty, never null")
    func empty() throws {
        #expect(
            try record("{}").json
                == text(
                    "{\"timestamp_unix_nano\":\(now),\"observed_timestamp_unix_nano\":\(now),\"severity_number\":0,\"severity_text\":\"\",\"body\":\"\",\"attributes\":{},\"trace_id\":\"\",\"span_id\":\"\",\"resource\":{},\"service_name\":\"unknown\",\"instrumentation_scope_name\":\"\",\"instrumentation_scope_version\":\"\"}"
                ))
    }

    @Test(
        "times are numbers or decimal strings",
        arguments: [
            ("1767225600000000001", UInt64(1_767_225_600_000_000_001)),
            ("\"1767225600000000001\"", 1_767_225_600_000_000_001),
            ("18446744073709551615", .max), ("\"18446744073709551615\"", .max), ("0", 0),
        ])
    func times(written: String, nanoseconds: UInt64) throws {
        let record = try record("{\"timeUnixNano\":\(written)}")
        #expect(record.timestampNanoseconds == nanoseconds)
        #expect(record.observedNanoseconds == nanoseconds)
    }

    @Test(
        "what is no time is now",
        arguments: ["null", "\"\"", "-1", "1.5", "\"x\"", "18446744073709551616", "{}", "true"])
    func badTimes(written: String) throws {
        let record = try record("{\"timeUnixNano\":\(written),\"observedTimeUnixNano\":\(written)}")
        #expect(record.timestampNanoseconds == now)
        #expect(record.observedNanoseconds == now)
    }

    @Test(
        "a severity is the low byte of a number or a string; whatever else is none",
        arguments: [
            ("1", 1), ("24", 24), ("\"17\"", 17), ("0", 0), ("255", 255), ("256", 0), ("-1", 0),
            ("9.5", 0), ("18446744073709551615", 255), ("9223372036854775808", 0), ("\"INFO\"", 0),
            ("null", 0), ("[]", 0),
        ])
    func severities(written: String, number: Int) throws {
        #expect(try record("{\"severityNumber\":\(written)}").severityNumber == number)
    }

    @Test(
        "an id of zeros is none; others are in lower case",
        arguments: [
            ("\"\"", ""), ("\"0\"", ""), ("\"00000000000000000000000000000000\"", ""), ("null", ""),
            ("5", ""),
            ("\"0A\"", "0a"),
            ("\"00000000000000000000000000000001\"", "00000000000000000000000000000001"),
        ])
    func identifiers(written: String, identifier: String) throws {
        let record = try record("{\"traceId\":\(written),\"spanId\":\(written)}")
        #expect(record.traceID == identifier)
        #expect(record.spanID == identifier)
    }

    @Test(
        "every kind of value has its JSON",
        arguments: [
            (#"{"stringValue":"a\"b"}"#, #""a\"b""#), (#"{"stringValue":""}"#, "\"\""),
            (#"{"intValue":5}"#, "5"), (#"{"intValue":"-5"}"#, "-5"),
            (#"{"intValue":"9223372036854775807"}"#, "9223372036854775807"),
            (#"{"intValue":"9223372036854775808"}"#, "null"), (#"{"intValue":1.5}"#, "null"),
            (#"{"doubleValue":1.50}"#, "1.50"), (#"{"doubleValue":"1.5"}"#, "null"),
            (#"{"boolValue":true}"#, "true"), (#"{"boolValue":false}"#, "false"),
            (#"{"boolValue":1}"#, "null"),
            (#"{"stringValue":5}"#, "null"), (#"{"bytesValue":"AAE="}"#, "null"), ("{}", "null"),
            ("null", "null"), ("\"x\"", "null"), ("5", "null"), (#"{"stringValue":null}"#, "null"),
            (#"{"stringValue":null,"intValue":"7"}"#, "7"),
            (
                #"{"arrayValue":{"values":[{"intValue":1},{"stringValue":"x"},{}]}}"#,
                #"[1,"x",null]"#
            ),
            (#"{"arrayValue":{}}"#, "[]"), (#"{"arrayValue":{"values":{}}}"#, "[]"),
            (#"{"arrayValue":5}"#, "[]"),
            (
                #"{"kvlistValue":{"values":[{"key":"a","value":{"kvlistValue":{"values":[{"key":"b","value":{"boolValue":true}}]}}}]}}"#,
                #"{"a":{"b":true}}"#
            ),
            (#"{"kvlistValue":{}}"#, "{}"),
        ])
    func values(value: String, json: String) throws {
        let record = try record("{\"attributes\":[{\"key\":\"k\",\"value\":\(value)}]}")
        #expect(record.attributes == text("{\"k\":\(json)}"))
    }

    @Test(
        "the body is text: strings as they are, nothing for null, everything else as JSON",
        arguments: [
            (#"{"stringValue":"a\nb"}"#, "a\nb"), (#"{"intValue":"5"}"#, "5"),
            (#"{"boolValue":false}"#, "false"),
            (#"{"arrayValue":{"values":[{"stringValue":"x"}]}}"#, #"["x"]"#), ("{}", ""),
            ("null", ""),
            (#"{"kvlistValue":{"values":[{"key":"a","value":{"intValue":1}}]}}"#, #"{"a":1}"#),
        ])
    func bodies(value: String, body: String) throws {
        #expect(try record("{\"body\":\(value)}").body == body)
    }

    @Test("the values of a resource are strings") func resource() throws {
        let record = try record(
            "{}",
            resource:
                #"{"attributes":[{"key":"pid","value":{"intValue":"7"}},{"key":"up","value":{"boolValue":true}},{"key":"none","value":{}},{"key":"tags","value":{"arrayValue":{"values":[{"intValue":1}]}}}]}"#
        )
        #expect(record.resource == text(#"{"pid":"7","up":"true","none":"","tags":"[1]"}"#))
        #expect(record.serviceName == "unknown")
    }

    @Test(
        "an empty service name is unknown",
        arguments: [#"{"stringValue":""}"#, "{}", "null"])
    func emptyServiceName(value: String) throws {
        let resource = "{\"attributes\":[{\"key\":\"service.name\",\"value\":\(value)}]}"
        #expect(try record("{}", resource: resource).serviceName == "unknown")
    }

    @Test("of a repeated key the last value stands in the first place") func repeatedKey() throws {
        let record = try record(
            #"{"attributes":[{"key":"a","value":{"intValue":1}},{"key":"b","value":{"intValue":2}},{"key":"a","value":{"intValue":3}}]}"#
        )
        #expect(record.attributes == text(#"{"a":3,"b":2}"#))
    }

    @Test("attributes without a key or a value are left out") func brokenAttributes() throws {
        let record = try record(
            #"{"attributes":[5,{"key":"a"},{"value":{"intValue":1}},{"key":5,"value":{"intValue":1}},{"key":"b","value":{"intValue":1}}]}"#
        )
        #expect(record.attributes == text(#"{"b":1}"#))
    }

    @Test("records come in the order of the export, each with its own resource and scope")
    func order() {
        let records = records(
            #"""
            {"resourceLogs":[
            {"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"A"}}]},"scopeLogs":[
            {"scope":{"name":"s1"},"logRecords":[{"body":{"stringValue":"1"}},{"body":{"stringValue":"2"}}]},
            {"logRecords":[{"body":{"stringValue":"3"}}]}]},
            {"scopeLogs":[{"scope":{"name":"s2"},"logRecords":[{"body":{"stringValue":"4"}}]}]}]}
            """#)
        #expect(records.map(\.body) == ["1", "2", "3", "4"])
        #expect(records.map(\.serviceName) == ["A", "A", "A", "unknown"])
        #expect(records.map(\.scopeName) == ["s1", "s1", "", "s2"])
    }

    @Test(
        "what is no export has no records",
        arguments: [
            "null", "5", "\"x\"", "[]", "{}", #"{"resourceLogs":5}"#, #"{"resourceLogs":{}}"#,
            #"{"resourceLogs":[null,5,[]]}"#, #"{"resourceLogs":[{"scopeLogs":5}]}"#,
            #"{"resourceLogs":[{"scopeLogs":[{"logRecords":{}}]}]}"#, #"{"resourceSpans":[{}]}"#,
        ])
    func noRecords(export: String) {
        #expect(records(export).isEmpty)
    }

    @Test(
        "parts of other kinds are none",
        arguments: ["5", "\"x\"", "null", "[]", "true"])
    func oddParts(part: String) throws {
        let record = try record(
            "{\"attributes\":\(part),\"body\":\(part),\"severityText\":\(part == "\"x\"" ? "5" : part)}",
            resource: part, scope: part)
        #expect(record.attributes == text("{}"))
        #expect(record.resource == text("{}"))
        #expect(record.scopeName.isEmpty)
        #expect(record.body.isEmpty)
        #expect(record.severityText.isEmpty)
    }

    /// The core lets messages through that are up to 127 deep.
    @Test("values nested as deep as a message may be are read") func deep() throws {
        var value = #"{"intValue":1}"#
        var json = "1"
        for _ in 0..<38 {
            value = "{\"arrayValue\":{\"values\":[\(value)]}}"
            json = "[\(json)]"
        }
        #expect(try record("{\"body\":\(value)}").body == json)
    }

    @Test("any bytes can be read") func noise() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("log record noise: seed \(seed)")
        var random = SplitMix(state: seed)
        let whole = Array(
            #"{"resourceLogs":[{"resource":{"attributes":[{"key":"a","value":{"stringValue":"b"}}]},"scopeLogs":[{"scope":{"name":"s"},"logRecords":[{"severityNumber":9,"timeUnixNano":"1","body":{"kvlistValue":{"values":[{"key":"k","value":{"arrayValue":{"values":[{"intValue":"1"}]}}}]}},"traceId":"00"}]}]}]}"#
                .utf8)
        for _ in 0..<2000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let index = Int(random.next() % UInt64(bytes.count))
                bytes[index] = whole[Int(random.next() % UInt64(whole.count))]
            }
            let records = Array(TelemetryLogReader(JSONText(validated: bytes), at: moment))
            #expect(
                records.allSatisfy {
                    0...255 ~= $0.severityNumber && $0.attributes.view.kind == .object
                })
        }
    }
}
