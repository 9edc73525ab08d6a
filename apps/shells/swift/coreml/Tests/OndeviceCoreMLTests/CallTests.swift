// The same cases as tests/runtime/test_coreml_calls.py.

import CoreML
import XCTest
@testable import OndeviceCoreML

final class CallTests: XCTestCase {
    func testTheCasesOfThePythonTests() throws {
        let file = try XCTUnwrap(Bundle.module.url(forResource: "calls", withExtension: "json"))
        let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: file))
        XCTAssertFalse(cases.isEmpty)
        for one in cases {
            let found = calls(
                Array(0 ..< one.tokens), at: one.position, context: one.context, isStatic: one.static
            )
            XCTAssertEqual(found.map(\.function), one.calls.map(\.function))
            XCTAssertEqual(found.map(\.tokens), one.calls.map(\.tokens))
            XCTAssertEqual(found.map(\.position), one.calls.map(\.position))
            XCTAssertEqual(found.map { [$0.ids.count, $0.columns] }, one.calls.map(\.mask))
        }
    }

    func testTheMaskHidesWhatComesAfterAToken() throws {
        let call = Call(function: "main", ids: [1, 2, 3], tokens: 3, position: 2, columns: 5)
        let mask = try XCTUnwrap(call.features(isStatic: false).featureValue(for: "causalMask")?.multiArrayValue)
        XCTAssertEqual(mask.shape, [1, 1, 3, 5])
        let values = MLShapedArray<Float>(converting: mask).scalars
        XCTAssertEqual(values, [0, 0, 0, -10000, -10000, 0, 0, 0, 0, -10000, 0, 0, 0, 0, 0])
    }

    func testPercentilesAreThoseOfNumpy() throws {
        let found = percentiles([0.001, 0.002, 0.003, 0.004])
        XCTAssertEqual(try XCTUnwrap(found["p50"] as? Double), 2.5, accuracy: 1e-9)
        XCTAssertEqual(try XCTUnwrap(found["p95"] as? Double), 3.85, accuracy: 1e-9)
    }
}

private struct Case: Decodable {
    struct Run: Decodable {
        let function: String
        let tokens: Int
        let position: Int
        /// Rows and columns.
        let mask: [Int]
    }

    let tokens: Int
    let position: Int
    let context: Int
    let `static`: Bool
    let calls: [Run]
}
