/// Convolution by its definition, in Double: seven loops, without code of the engine.
struct ReferenceConvolution {
  let n: Int, h: Int, w: Int, c: Int, k: Int, kernel: Int, stride: Int, padding: Int

  var height: Int { (h + 2 * padding - kernel) / stride + 1 }
  var width: Int { (w + 2 * padding - kernel) / stride + 1 }
  var inputs: Int { n * h * w * c }
  var weights: Int { kernel * kernel * c * k }
  var outputs: Int { n * height * width * k }

  /// Calls `body` for every product, with its indices in the input, the weight and the output.
  private func forEachProduct(_ body: (_ x: Int, _ w: Int, _ y: Int) -> Void) {
    for image in 0..<n {
      for i in 0..<height {
        for j in 0..<width {
          for r in 0..<kernel {
            for s in 0..<kernel {
              let a = i * stride - padding + r
              let b = j * stride - padding + s
              guard a >= 0, a < h, b >= 0, b < w else { continue }
              for channel in 0..<c {
                for filter in 0..<k {
                  body(
                    ((image * h + a) * w + b) * c + channel, ((r * kernel + s) * c + channel) * k + filter,
                    ((image * height + i) * width + j) * k + filter)
                }
              }
            }
          }
        }
      }
    }
  }

  func forward(_ x: [Double], _ weight: [Double]) -> [Double] {
    var y = [Double](repeating: 0, count: outputs)
    y.withUnsafeMutableBufferPointer { y in forEachProduct { y[$2] += x[$0] * weight[$1] } }
    return y
  }

  func dataGradient(_ dy: [Double], _ weight: [Double]) -> [Double] {
    var dx = [Double](repeating: 0, count: inputs)
    dx.withUnsafeMutableBufferPointer { dx in forEachProduct { dx[$0] += dy[$2] * weight[$1] } }
    return dx
  }

  func weightGradient(_ dy: [Double], _ x: [Double]) -> [Double] {
    var dw = [Double](repeating: 0, count: weights)
    dw.withUnsafeMutableBufferPointer { dw in forEachProduct { dw[$1] += dy[$2] * x[$0] } }
    return dw
  }
}
