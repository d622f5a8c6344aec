/// Winograd's minimal filtering for 3×3 convolutions (Lavin and Gray 2016, arXiv:1509.09308): a tile of the output by
/// fewer products than outputs times taps,
///
///     Y = S [ (K g Kᵀ) ⊙ (T d Tᵀ) ] Sᵀ          g the 3×3 kernel, d a patch of the input
///
/// Every matrix acts along lines and then along columns; a `LineTransform` is one matrix, a `WinogradScheme` a set of
/// matrices that belong together. All are vectorised over channels.
protocol WinogradScheme {
  /// T, of the input.
  associatedtype Input: LineTransform
  /// S, to the output.
  associatedtype Output: LineTransform
  /// Sᵀ, of the output's gradient, for the weight gradient K'ᵀ [ Σ (Sᵀ dY S) ⊙ (T d Tᵀ) ] K'.
  associatedtype Cotangent: LineTransform
  /// T and S of the data gradient, whose kernel is rotated by 180°.
  associatedtype TurnedInput: LineTransform
  associatedtype TurnedOutput: LineTransform
  /// K, of the kernel, and its transpose.
  associatedtype Kernel: LineTransform
  associatedtype KernelGradient: LineTransform

  /// Lines from one patch of the input to the next, and lines of padding above the first.
  static var advance: Int { get }
  static var margin: Int { get }
  /// The same padding of dy in the data gradient.
  static var turnedMargin: Int { get }
  /// The products, along one direction, that share a transformed weight.
  static func products(of weight: Int) -> Range<Int>
  /// Whether a tile of so many outputs, of one direction, takes part in a product.
  static func uses(_ product: Int, tile: Int) -> Bool
}

/// A matrix, as its product with a vector of lanes. The last tile of a line may have only two or three outputs and
/// needs fewer points: a subset of a full tile's, so the transformed weights are the same, with matrices of their own.
protocol LineTransform {
  static var inputs: Int { get }
  static var outputs: Int { get }
  /// - tile: outputs of the tile, 2 to 4.
  static func apply(
    _ tile: Int, _ read: (_ i: Int) -> Lanes, _ write: (_ i: Int, _ value: Lanes) -> Void)
}
