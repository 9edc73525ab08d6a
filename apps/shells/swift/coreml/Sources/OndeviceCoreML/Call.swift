// How tokens are run by the functions of a package: docs/coreml.md, and `Calls` in runtime/coreml.py.

import CoreML

/// Tokens that `main` takes where shapes are fixed.
let staticTokens = 64
/// Tokens of a prompt that are run at a time elsewhere: scores grow with their square.
let chunk = 512

/// One run of a function on some tokens.
struct Call: Equatable {
    var function: String
    /// Token ids, filled up with 0 where shapes are fixed.
    var ids: [Int32]
    /// How many of them are tokens.
    var tokens: Int
    /// Of the first of them.
    var position: Int
    /// Positions that the mask has columns for.
    var columns: Int
}

/// The runs for tokens after `position` others; the last gives the logits of the last token.
///
/// Where shapes are fixed, `main` gives none, and what it writes into the KV cache for the filling
/// is overwritten before a token sees it.
func calls(_ tokens: [Int], at position: Int, context: Int, isStatic: Bool) -> [Call] {
    var found: [Call] = []
    var done = 0
    while done < tokens.count {
        let left = tokens.count - done, first = position + done
        var count = min(chunk, left)
        if isStatic {
            count = min(staticTokens, left - 1)
            if count < 2 || first + staticTokens > context { count = 1 }
        }
        var ids = tokens[done ..< done + count].map { Int32($0) }
        let single = isStatic && count == 1
        if isStatic, !single {
            ids += Array(repeating: 0, count: staticTokens - count)
        }
        found.append(
            Call(
                function: single ? "decode" : "main", ids: ids, tokens: count, position: first,
                columns: isStatic ? context : first + count
            )
        )
        done += count
    }
    return found
}

extension Call {
    /// The inputs of the function. Half precision is written as bits: Intel Macs have no `Float16`.
    func features(isStatic: Bool) throws -> MLFeatureProvider {
        let idArray = try MLMultiArray(shape: [1, NSNumber(value: ids.count)], dataType: .int32)
        for (index, id) in ids.enumerated() { idArray[index] = NSNumber(value: id) }
        var features = [
            "inputIds": MLFeatureValue(multiArray: idArray),
            "causalMask": MLFeatureValue(multiArray: try mask()),
        ]
        if isStatic {
            let positionArray = try MLMultiArray(shape: [1], dataType: .int32)
            positionArray[0] = NSNumber(value: position)
            features["position"] = MLFeatureValue(multiArray: positionArray)
        }
        return try MLDictionaryFeatureProvider(dictionary: features)
    }

    /// (1, 1, tokens, columns): 0 where a token sees a position, -10000 where not.
    private func mask() throws -> MLMultiArray {
        let array = try MLMultiArray(
            shape: [1, 1, NSNumber(value: ids.count), NSNumber(value: columns)], dataType: .float16
        )
        array.withUnsafeMutableBytes { bytes, strides in
            let values = bytes.bindMemory(to: UInt16.self)
            for row in 0 ..< ids.count {
                for column in 0 ..< columns {
                    let index = row * strides[2] + column * strides[3]
                    values[index] = column <= position + row ? 0 : hidden
                }
            }
        }
        return array
    }
}

/// -10000 in half precision.
let hidden: UInt16 = 0xF0E2
