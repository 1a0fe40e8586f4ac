/** FastGelu (com.microsoft 1): Gelu of x + bias (optional) with the tanh approximation. */
import { defineBiasedGelu } from './families/biased-gelu';
import { geluTanh } from './families/special-functions';

export const FastGelu = defineBiasedGelu('FastGelu', 'gelu_tanh', geluTanh);
